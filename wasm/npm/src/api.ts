// The exports of every entry of the package.

export { bytes, json, text } from "./codecs.js";
export { AmqpError } from "./errors.js";
export { connect } from "./session.js";
