// The exports of every entry of the package.

export { batches, PublishManyError, publishMany } from "./batches.js";
export { bytes, json, text } from "./codecs.js";
export { AmqpError } from "./errors.js";
export { connect } from "./session.js";
