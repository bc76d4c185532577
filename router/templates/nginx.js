// Tells nginx which worker owns the namespace of a request. Written by `fs9 deploy render njs` for
// @@slots worker(s); render it again when that number changes.
//
// A namespace falls into one of @@buckets buckets by the CRC-32 of its name. OWNERS has the slot
// of each bucket as @@width digit(s) in base 36, as the server's ring places it. Nothing is
// verified here: the worker does that.
//
// nginx runs this file again for each request, so the top level has literals only.

const AUTH = @@auth;
const WIDTH = @@width;
const NAME = /^[a-z0-9][a-z0-9_-]{0,63}$/;
const API = '/api/v1/';
const CRC = [
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
];

// 'any' for a request without a namespace, or with a name that no namespace can have.
function place(r) {
    const name = namespace(r);
    if (name === null || !NAME.test(name)) {
        return 'any';
    }
    const start = bucket(name) * WIDTH;
    return String(parseInt(OWNERS.substring(start, start + WIDTH), 36));
}

function namespace(r) {
    const path = r.variables.request_uri.split('?', 1)[0];
    const at = path.startsWith(API) ? 0 : path.indexOf('/', 1);
    if (at < 0 || at === 1 || !path.startsWith(API, at)) {
        return null;
    }
    if (AUTH) {
        return claimed(r.headersIn.Authorization);
    }
    return at ? path.substring(1, at) : 'default';
}

// The claim `ns` of a bearer token.
function claimed(authorization) {
    if (!authorization || !authorization.startsWith('Bearer ')) {
        return null;
    }
    const parts = authorization.substring(7).split('.');
    if (parts.length !== 3) {
        return null;
    }
    try {
        const ns = JSON.parse(Buffer.from(parts[1], 'base64url').toString()).ns;
        return typeof ns === 'string' ? ns : null;
    } catch (e) {
        return null;
    }
}

// Half a byte at a time; a name is ASCII.
function bucket(name) {
    let crc = -1;
    for (let i = 0; i < name.length; i++) {
        crc ^= name.charCodeAt(i);
        crc = CRC[crc & 15] ^ (crc >>> 4);
        crc = CRC[crc & 15] ^ (crc >>> 4);
    }
    return ~crc & @@bucket_mask;
}

const OWNERS = '\
@@owners_js';

export default {place};
