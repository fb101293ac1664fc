// Reads event streams with the `ai` package: a JSON array of their texts in, an array of what was read out.
import { text } from "node:stream/consumers";
import { parseJsonEventStream, readUIMessageStream, uiMessageChunkSchema } from "ai";

async function read(stream) {
  const errors = [];
  const chunks = parseJsonEventStream({
    stream: new Blob([stream]).stream(),
    schema: uiMessageChunkSchema,
  }).pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        if (!chunk.success) throw chunk.error;
        controller.enqueue(chunk.value);
      },
    }),
  );
  let message = null;
  const onError = (error) => errors.push(String(error.message ?? error));
  for await (message of readUIMessageStream({ stream: chunks, onError })) {
    // the last one is whole
  }
  return { message, errors };
}

const streams = JSON.parse(await text(process.stdin));
console.log(JSON.stringify(await Promise.all(streams.map(read))));
