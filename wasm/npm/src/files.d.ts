declare module "*.wasm" {
  const base64: string;
  export default base64;
}
declare module "node:fs/promises" {
  export function readFile(path: URL): Promise<Uint8Array<ArrayBuffer>>;
}
