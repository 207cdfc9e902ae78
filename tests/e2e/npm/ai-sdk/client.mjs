// Vercel's AI SDK with its OpenAI provider: chat completions, or responses, which is its default.
import { readFileSync } from "node:fs";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";

const WORDS = 3; // of an answer, after which a client hangs up
const job = JSON.parse(readFileSync(0, "utf8"));
const openai = createOpenAI();
const model = process.argv[2] === "chat" ? openai.chat("demo") : openai("demo");
const messages = [];
for (const said of job.says) {
  messages.push({ role: "user", content: said });
  const request = { model, messages, maxOutputTokens: 24, ...(job.system && { system: job.system }) };
  let text = "";
  if (job.streamed) {
    const leaving = new AbortController();
    let pieces = 0;
    const failed = [];
    const answer = streamText({
      ...request,
      abortSignal: leaving.signal,
      onError: ({ error }) => failed.push(error),
    });
    for await (const piece of answer.textStream) {
      text += piece;
      pieces += 1;
      if (pieces === WORDS && said === job.says[job.leave_in]) {
        leaving.abort();
        break;
      }
    }
    if (failed.length && !leaving.signal.aborted) throw failed[0];
  } else {
    ({ text } = await generateText(request));
  }
  messages.push({ role: "assistant", content: text });
}
const { version } = JSON.parse(readFileSync("node_modules/ai/package.json", "utf8"));
const system = job.system ? [{ role: "system", content: job.system }] : [];
console.log(JSON.stringify({ version, messages: [...system, ...messages] }));
