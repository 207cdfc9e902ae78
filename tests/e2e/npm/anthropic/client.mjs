// The official @anthropic-ai/sdk, messages.
import { readFileSync } from "node:fs";
import Anthropic from "@anthropic-ai/sdk";

const WORDS = 3; // of an answer, after which a client hangs up
const job = JSON.parse(readFileSync(0, "utf8"));
const messages = [];
const finish = [];
const client = new Anthropic();
for (const said of job.says) {
  messages.push({ role: "user", content: said });
  const request = { model: "demo", messages, max_tokens: 24, ...(job.system && { system: job.system }) };
  let text = "";
  if (job.streamed) {
    let pieces = 0;
    for await (const event of await client.messages.create({ ...request, stream: true })) {
      if (event.type === "content_block_delta" && event.delta.type === "text_delta") {
        text += event.delta.text;
        pieces += 1;
      }
      if (event.type === "message_delta") finish.push(event.delta.stop_reason);
      if (pieces === WORDS && said === job.says[job.leave_in]) break; // leaving the loop aborts the request
    }
  } else {
    const message = await client.messages.create(request);
    text = message.content.map((block) => block.text).join("");
    finish.push(message.stop_reason);
  }
  messages.push({ role: "assistant", content: text });
}
const { version } = JSON.parse(readFileSync("node_modules/@anthropic-ai/sdk/package.json", "utf8"));
const system = job.system ? [{ role: "system", content: job.system }] : [];
console.log(JSON.stringify({ version, messages: [...system, ...messages], finish }));
