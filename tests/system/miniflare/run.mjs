// Runs Cloudflare's local R2 with S3 credentials, and prints one line when it answers.
// usage: node run.mjs MODULES BUCKET KEY_ID SECRET   (MODULES: the folder in which miniflare is installed)
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, bucket, accessKeyId, secretAccessKey] = process.argv.slice(2);
if (!secretAccessKey) {
	console.error("usage: node run.mjs MODULES BUCKET KEY_ID SECRET");
	process.exit(2);
}
const { Miniflare } = createRequire(join(modules, "package.json"))("miniflare");
const miniflare = new Miniflare({
	modules: true,
	script: "export default { fetch() { return new Response('r2') } }",
	host: "127.0.0.1",
	port: 0,
	r2Buckets: { B: { id: bucket, s3Credentials: { accessKeyId, secretAccessKey } } },
});
const url = await miniflare.ready;
console.log(`miniflare: ready on http://127.0.0.1:${url.port}/cdn-cgi/local/r2/s3`);
for (const signal of ["SIGTERM", "SIGINT"])
	process.on(signal, async () => {
		await miniflare.dispose();
		process.exit(0);
	});
