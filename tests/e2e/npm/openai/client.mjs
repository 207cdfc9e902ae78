// The official openai SDK in JavaScript, chat completions.
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const WORDS = 3; // of an answer, after which a client hangs up
const job = JSON.parse(readFileSync(0, "utf8"));
const messages = job.system ? [{ role: "system", content: job.system }] : [];
const finish = [];
const client = new OpenAI();
for (const said of job.says) {
  messages.push({ role: "user", content: said });
  const request = { model: "demo", messages, max_tokens: 24 };
  let text = "";
  if (job.streamed) {
    let pieces = 0;
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      for (const choice of chunk.choices) {
        if (choice.delta.content) {
          text += choice.delta.content;
          pieces += 1;
        }
        if (choice.finish_reason) finish.push(choice.finish_reason);
      }
      if (pieces === WORDS && said === job.says[job.leave_in]) break; // leaving the loop aborts the request
    }
  } else {
    const completion = await client.chat.completions.create(request);
    text = completion.choices[0].message.content;
    finish.push(completion.choices[0].finish_reason);
  }
  messages.push({ role: "assistant", content: text });
}
const { version } = JSON.parse(readFileSync("node_modules/openai/package.json", "utf8"));
console.log(JSON.stringify({ version, messages, finish }));
