// Counts results, in the format of Rust's tests, which `cargo xtask test` adds up.

export class Report {
  passed = 0;
  failed = [];

  constructor(place) {
    this.place = place;
    console.log(`\n     Running in ${place}`);
  }

  add(name, failure, milliseconds) {
    if (failure === undefined) this.passed++;
    else this.failed.push(name);
    const time = milliseconds === undefined ? "" : ` (${Math.round(milliseconds)} ms)`;
    console.log(`test ${name} ... ${failure === undefined ? "ok" : "FAILED"}${time}`);
    if (failure !== undefined) console.log(failure.replace(/^/gm, "    "));
  }

  /** Prints the summary. Returns whether all tests passed. */
  finish() {
    const { passed, failed } = this;
    const verdict = failed.length === 0 ? "ok" : "FAILED";
    console.log(`test result: ${verdict}. ${passed} passed; ${failed.length} failed; 0 ignored; ${this.place}`);
    return failed.length === 0;
  }
}
