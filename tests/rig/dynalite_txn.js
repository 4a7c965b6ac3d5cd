/* dynalite with transactions, which it lacks: dynalite_txn.js FOLDER PORT, of node_modules/dynalite and to listen on.
 *
 * Requests are answered one at a time. A transaction is its writes as single ones, each under its condition; when one
 * does not hold, those before it are undone from what they replaced. Nobody sees it half done. A token that was seen
 * gets the answer that it got before. */
'use strict';
const http = require('http'), { Readable } = require('stream');
const [folder, port] = process.argv.slice(2);
const answer = require(folder)({ createTableMs: 0, deleteTableMs: 0, updateTableMs: 0 }).listeners('request')[0];
const API = 'DynamoDB_20120810.', seen = new Map();

/* One request to dynalite: {status, headers, body}. */
function ask(req, body) {
    return new Promise((resolve) => {
        const inner = Object.assign(Readable.from([body]), { method: req.method, url: req.url, headers: req.headers });
        const out = { headers: {}, statusCode: 200 };
        out.setHeader = (name, value) => { out.headers[name] = value; };
        out.removeHeader = (name) => { delete out.headers[name]; };
        out.end = (text) => resolve({ status: out.statusCode, headers: out.headers, body: text || '' });
        out.on = out.once = () => out;
        answer(inner, out);
    });
}

function single(req, operation, input) {
    const body = Buffer.from(JSON.stringify(input));
    const headers = { ...req.headers, 'x-amz-target': API + operation, 'content-length': String(body.length) };
    return ask({ method: req.method, url: req.url, headers }, body);
}

function reply(status, value) {
    return { status, headers: { 'Content-Type': 'application/x-amz-json-1.0' }, body: JSON.stringify(value) };
}

/* A condition alone is an update of nothing, which is undone with the others. */
const OPERATIONS = { Put: 'PutItem', Delete: 'DeleteItem', Update: 'UpdateItem', ConditionCheck: 'UpdateItem' };

async function undo(req, done) {
    for (const { input, key, old } of done.reverse())
        await (old ? single(req, 'PutItem', { TableName: input.TableName, Item: old })
            : single(req, 'DeleteItem', { TableName: input.TableName, Key: key }));
}

async function write(req, items) {
    const done = [], checks = [], reasons = items.map(() => ({ Code: 'None' }));
    let failed = false;
    for (const [i, item] of items.entries()) {
        const [kind, input] = Object.entries(item)[0];
        const key = input.Key || { p: input.Item.p, k: input.Item.k };
        const before = await single(req, 'GetItem', { TableName: input.TableName, Key: key, ConsistentRead: true });
        const result = await single(req, OPERATIONS[kind], input);
        const change = { input, key, old: before.status === 200 ? JSON.parse(before.body).Item : undefined };
        if (result.status === 200) {
            (kind === 'ConditionCheck' ? checks : done).push(change);
            continue;
        }
        const error = JSON.parse(result.body), name = error.__type.split('#').pop();
        if (name !== 'ConditionalCheckFailedException' && name !== 'ValidationException') {
            await undo(req, done.concat(checks));
            return result;
        }
        failed = true;
        reasons[i] = { Code: name === 'ValidationException' ? 'ValidationError' : 'ConditionalCheckFailed',
            Message: error.message || error.Message };
    }
    await undo(req, failed ? done.concat(checks) : checks);
    if (!failed)
        return reply(200, {});
    return reply(400, { __type: 'com.amazonaws.dynamodb.v20120810#TransactionCanceledException',
        Message: 'Transaction cancelled, please refer cancellation reasons for specific reasons ['
            + reasons.map((reason) => reason.Code).join(', ') + ']', CancellationReasons: reasons });
}

async function read(req, items) {
    const responses = [];
    for (const { Get } of items) {
        const one = await single(req, 'GetItem', { ...Get, ConsistentRead: true });
        if (one.status !== 200)
            return one;
        responses.push(JSON.parse(one.body));
    }
    return reply(200, { Responses: responses });
}

async function serve(req, body) {
    const operation = (req.headers['x-amz-target'] || '').slice(API.length);
    if (operation === 'TransactGetItems')
        return read(req, JSON.parse(body).TransactItems);
    if (operation !== 'TransactWriteItems')
        return ask(req, body);
    const input = JSON.parse(body);
    if (!seen.has(input.ClientRequestToken))
        seen.set(input.ClientRequestToken, await write(req, input.TransactItems));
    return seen.get(input.ClientRequestToken);
}

let turn = Promise.resolve();
const server = http.createServer((req, res) => {
    const parts = [];
    req.on('data', (part) => parts.push(part));
    req.on('end', () => {
        turn = turn.then(() => serve(req, Buffer.concat(parts))).then((out) => {
            const headers = Object.fromEntries(Object.entries(out.headers)
                .filter(([name]) => !/^(connection|content-length|transfer-encoding)$/i.test(name)));
            res.writeHead(out.status, { ...headers, 'Content-Length': Buffer.byteLength(out.body) });
            res.end(out.body);
        }).catch((error) => { console.error(error); res.destroy(); });
    });
});
server.keepAliveTimeout = 0; /* else it closes connections that a client is about to use */
server.listen(Number(port), '127.0.0.1');
