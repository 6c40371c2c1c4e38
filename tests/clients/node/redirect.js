'use strict';
// Preloaded with --require: brings what a library sends to the legacy service's hosts to the gateway instead.
//
// Most libraries hard-code the host. Only the TCP connection is bent: the library, its URL, the Host header, the TLS
// server name and the check of the certificate stay as they are, so the test certificate must name these hosts.

const net = require('net');

const HOSTS = ['2captcha.com', 'rucaptcha.com'];
const GATEWAYS = { 443: process.env.GATEWAY_HTTPS, 80: process.env.GATEWAY_HTTP };
const LOOPBACK = ['127.0.0.1', '::1', 'localhost'];

// Every outgoing connection ends here, TLS included: a TLSSocket is a Socket.
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  // Node's own callers pass options and callback in one array, everybody else passes them one by one.
  const [options, callback] = Array.isArray(given[0]) ? given[0] : given;
  if (typeof options !== 'object' || options.path) {
    throw new Error('redirect.js: only connections to a host and port, in an object, are foreseen');
  }
  const host = options.host || 'localhost';
  if (LOOPBACK.includes(host)) {
    return connect.apply(this, given);
  }
  const gateway = HOSTS.includes(host) && GATEWAYS[options.port];
  if (!gateway) {
    // A test must not reach the real service, nor anybody else.
    throw new Error(`redirect.js: a library wants to connect to ${host}:${options.port}`);
  }
  const colon = gateway.lastIndexOf(':');
  // A copy: the agent keeps the options, and finds its idle connections by the host that they name.
  const bent = { ...options, host: gateway.slice(0, colon), port: Number(gateway.slice(colon + 1)) };
  return connect.call(this, bent, callback);
};
