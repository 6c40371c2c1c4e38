'use strict';
// Preloaded with --require: redirects connections to the legacy service's hosts to the gateway.
//
// Most libraries hard-code the host. Only the TCP connection changes: the library, its URL, the Host header, the TLS
// server name and the verification of the certificate do not, so the test certificate must name these hosts.

const net = require('net');

const HOSTS = ['2captcha.com', 'rucaptcha.com'];
const GATEWAYS = { 443: process.env.GATEWAY_HTTPS, 80: process.env.GATEWAY_HTTP };
const LOOPBACK = ['127.0.0.1', '::1', 'localhost'];

// All outgoing connections use this method, TLS included: a TLSSocket is a Socket.
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
  // Node's own callers pass options and callback in one array, other callers pass two arguments.
  const [options, callback] = Array.isArray(args[0]) ? args[0] : args;
  if (typeof options !== 'object' || options.path) {
    throw new Error('redirect.js: only connections to a host and port, in an object, are supported');
  }
  const host = options.host || 'localhost';
  if (LOOPBACK.includes(host)) {
    return connect.apply(this, args);
  }
  const gateway = HOSTS.includes(host) && GATEWAYS[options.port];
  if (!gateway) {
    // A test must not reach the real service or any other host.
    throw new Error(`redirect.js: a library wants to connect to ${host}:${options.port}`);
  }
  const colon = gateway.lastIndexOf(':');
  // A copy, because the agent finds its idle connections by the host in the options.
  const redirected = { ...options, host: gateway.slice(0, colon), port: Number(gateway.slice(colon + 1)) };
  return connect.call(this, redirected, callback);
};
