// What Node's parser (llhttp, in strict mode) makes of messages: stdin and the lines as of framing.c. "bad" is followed by its code;
// "upgrade" is where it stops because a request asks for another protocol.
import { readFileSync } from 'node:fs';

process.removeAllListeners('warning');
const { HTTPParser, methods, allMethods } = process.binding('http_parser');
const names = allMethods ?? methods;
const hex = (bytes) => bytes.length ? Buffer.from(bytes).toString('hex') : '-';

function parse(kind, data) {
	const parser = new HTTPParser();
	parser.initialize(kind === 'r' ? HTTPParser.RESPONSE : HTTPParser.REQUEST, {}, 65536, HTTPParser.kLenientNone ?? 0);
	let line = '', open = null, body = [], url = '', upgraded = false, last = false;
	const text = () => `${open} ${hex(Buffer.concat(body))} `;
	parser[HTTPParser.kOnMessageBegin | 0] = () => { open = null; body = []; url = ''; };
	parser[HTTPParser.kOnHeaders | 0] = (_headers, part) => { url += part; };
	parser[HTTPParser.kOnHeadersComplete | 0] = (major, minor, _headers, method, target, status, _reason, upgrade, keep) => {
		const full = Buffer.from(url + (target ?? ''), 'latin1');
		open = kind === 'r' ? `${status} - ${minor}` : `${hex(Buffer.from(names[method]))} ${hex(full)} ${minor}`;
		upgraded = upgrade;
		last = !keep;
		return 0;
	};
	parser[HTTPParser.kOnBody | 0] = (piece) => { body.push(Buffer.from(piece)); };
	parser[HTTPParser.kOnMessageComplete | 0] = () => { line += text() + (last ? 'close ' : ''); open = null; };
	const got = parser.execute(data);
	if (got instanceof Error)
		line += `bad ${got.code}`;
	else if (upgraded)
		line += 'upgrade';
	else if (open !== null)
		line += 'more ' + text();
	parser.close();
	return line.trim();
}

const input = readFileSync(0);
for (let at = 0; at < input.length;) {
	const kind = String.fromCharCode(input[at]), length = input.readUInt32LE(at + 1);
	// A copy: the parser remembers where its input lies.
	console.log(parse(kind, Buffer.from(input.subarray(at + 5, at + 5 + length))));
	at += 5 + length;
}
