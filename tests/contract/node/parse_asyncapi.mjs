// Reads docs/asyncapi.yaml with AsyncAPI's own parser and prints its messages. An error or a warning is a failure.
import { Parser, fromFile } from "@asyncapi/parser";

const WARNING = 1; // an error is 0; what is less than a warning has a higher number

const { document, diagnostics } = await fromFile(new Parser(), process.argv[2]).parse();
const faults = diagnostics.filter(({ severity }) => severity <= WARNING);
for (const { code, message, path, range } of faults) {
  console.error(`line ${range.start.line + 1}: ${code}: ${message} (${path.join(".")})`);
}
if (!document || faults.length) process.exit(1);
console.log(document.allMessages().all().map((message) => message.name()).join("\n"));
