// Prints what Microsoft's language service says of each file, as JSON: {file: ["line:column message", ...]}.
// Usage: NODE_PATH=.../node_modules node language_service.js SCHEMA FILE...
const fs = require("fs");
const { getLanguageService, parse } = require("azure-pipelines-language-service");
const { TextDocument } = require("vscode-languageserver-textdocument");

const [schemaPath, ...files] = process.argv.slice(2);
// An object: given the schema as text, the service finds nothing wrong with anything.
const schema = JSON.parse(fs.readFileSync(schemaPath, "utf8"));
// The library traces its own steps to the console, which would spoil the answer.
console.log = () => {};

const service = getLanguageService(async () => schema, [], async () => "file:///schema.json", {
  resolveRelativePath: (path) => path,
});
service.configure({ validate: true, schemas: [], customTags: [] });

async function problems(file) {
  const document = TextDocument.create(`file://${file}`, "azure-pipelines", 1, fs.readFileSync(file, "utf8"));
  const found = await service.doValidation(document, parse(document.getText()));
  return found.map(({ range, message }) => `${range.start.line + 1}:${range.start.character + 1} ${message}`);
}

(async () => {
  const answer = {};
  for (const file of files) answer[file] = await problems(file);
  process.stdout.write(JSON.stringify(answer));
})();
