// Runs model.onnx on images.bin (float32, of the shape given as JSON) in onnxruntime-web's WebAssembly, and writes
// each output to NAME.bin; prints their shapes as JSON.
import { readFileSync, writeFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";
const shape = JSON.parse(process.argv[2]);
const bytes = readFileSync("images.bin");
const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
const session = await ort.InferenceSession.create(new Uint8Array(readFileSync("model.onnx")), {
  executionProviders: ["wasm"],
});
const found = await session.run({ images: new ort.Tensor("float32", values, shape) });
const shapes = {};
for (const [name, output] of Object.entries(found)) {
  shapes[name] = output.dims;
  writeFileSync(`${name}.bin`, Buffer.from(output.data.buffer, output.data.byteOffset, output.data.byteLength));
}
console.log(JSON.stringify(shapes));
