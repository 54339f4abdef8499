// The page at / of the server: figures that come over a WebSocket, round trips on the
// same socket, and buttons that have a handler sleep, spin or fail meanwhile.
'use strict';

const $ = id => document.getElementById(id);

// Figures as texts.
const count = n => n < 1e6 ? Math.round(n).toLocaleString('en') : (n / 1e6).toLocaleString('en', { maximumFractionDigits: 2 }) + 'M';
const time = ms => ms < 0.9995 ? [(ms * 1000).toFixed(0), 'µs'] : ms < 9.95 ? [ms.toFixed(1), 'ms'] : ms < 999.5 ? [ms.toFixed(0), 'ms'] : [(ms / 1000).toFixed(1), 's'];
const bytes = n => n < 1e6 ? [(n / 1e3).toFixed(0), 'kB'] : n < 1e8 ? [(n / 1e6).toFixed(1), 'MB'] : [(n / 1e6).toFixed(0), 'MB'];
const text = ([n, unit]) => n + ' ' + unit;
const span = ms => {
  const s = Math.floor(ms / 1000);
  return s < 100 ? s + ' s' : s < 6000 ? Math.floor(s / 60) + ' min' : s < 172800 ? Math.floor(s / 3600) + ' h' : Math.floor(s / 86400) + ' days';
};
const put = (id, value) => { if ($(id).textContent !== value) $(id).textContent = value; };
function figure(id, [n, unit]) {
  const small = document.createElement('small');
  small.textContent = unit;
  $(id).replaceChildren(n, small);
}

// A series is the last minute of a figure, as a line.
const points = 120;
class Series {
  constructor(id, least) {
    this.values = [];
    this.least = least; // what the top of the chart is at least
    const path = name => {
      const p = document.createElementNS('http://www.w3.org/2000/svg', 'path');
      p.setAttribute('class', name);
      $(id).append(p);
      return p;
    };
    this.area = path('area');
    this.line = path('line');
  }
  get max() { return Math.max(0, ...this.values.filter(v => v !== null)); }
  add(value) { // null: there is nothing to be shown
    this.values.push(value);
    if (this.values.length > points) this.values.shift();
    const top = Math.max(this.least, this.max) * 1.06;
    let line = '', area = '', from = null;
    const end = x => { if (from !== null) area += `V40H${from}Z`; from = null; };
    this.values.forEach((v, i) => {
      const x = points - this.values.length + i;
      if (v === null) return end(x);
      const at = `${x},${(40 - v / top * 40).toFixed(2)}`;
      line += from === null ? `M${at}h0` : 'L' + at; // a point of its own is a dot
      area += (from === null ? 'M' : 'L') + at;
      if (from === null) from = x;
    });
    end();
    this.line.setAttribute('d', line);
    this.area.setAttribute('d', area);
  }
}
const series = { rate: new Series('rate-chart', 10), latency: new Series('latency-chart', 0.2), trip: new Series('trip-chart', 5), lag: new Series('lag-chart', 5), memory: new Series('memory-chart', 4e6) };

let before = null; // the snapshot before
function show(s) {
  if (before && s.uptimeMs <= before.uptimeMs) before = null; // another server
  const { stats } = s, c = stats.connections, h = stats.handlers;
  if (before) {
    const rate = Math.max(0, (stats.requests - before.stats.requests) * 1000 / (s.uptimeMs - before.uptimeMs));
    put('rate', count(rate));
    series.rate.add(rate);
    put('rate-max', count(series.rate.max));
    series.latency.add(s.ended ? s.p50Ms : null);
    if (s.ended) {
      figure('latency', time(s.p50Ms));
      put('latency-99', text(time(s.p99Ms)));
    }
    series.trip.add(trips.worst());
    put('trip-max', text(time(series.trip.max)));
  }
  put('requests', count(stats.requests));
  put('uptime', span(s.uptimeMs));
  const lag = stats.loopLagMaxNs / 1e6;
  lag > 0 ? figure('lag', time(lag)) : figure('lag', ['< 1', 'ms']);
  series.lag.add(lag);
  put('steals', count(h.steals));
  figure('memory', bytes(s.memBytes));
  series.memory.add(s.memBytes);
  put('heap', text(bytes(s.heapBytes)));
  put('goroutines', count(s.goroutines));
  bars('states', c, c.open);
  bars('versions', { ...c, http1: Math.max(0, c.open - c.http2 - c.switched) }, c.open);
  bars('responses', stats.responses, Object.values(stats.responses).reduce((a, b) => a + b, 0));
  bars('handlers', h, h.inline + h.worker);
  bars('routes', h, h.promotions + h.demotions);
  before = s;
}

// bars fills in a table, with each figure's share of a sum.
function bars(id, values, sum) {
  for (const dd of $(id).querySelectorAll('dd')) {
    const n = dd.dataset.of.split(' ').reduce((n, key) => n + values[key], 0);
    const shown = count(n);
    if (dd.textContent !== shown) dd.textContent = shown;
    dd.parentElement.style.setProperty('--share', sum > 0 ? Math.min(1, n / sum).toFixed(3) : 0);
  }
}

// Round trips: one message at a time, more often while a button's request is under way.
const running = new Set();
const trips = {
  sent: 0, pending: false, longest: null,
  go() {
    if (socket?.readyState !== WebSocket.OPEN || this.pending) return;
    this.pending = true;
    this.sent = performance.now();
    socket.send(String(this.sent));
  },
  back() {
    const took = performance.now() - this.sent;
    this.pending = false;
    this.longest = Math.max(this.longest ?? 0, took);
    figure('trip', time(took));
    for (const run of running) run.trip(took);
    setTimeout(() => this.go(), running.size ? 25 : 250);
  },
  // worst is the longest one since it was asked for last, one that lasts among them.
  worst() {
    let worst = this.longest;
    if (this.pending && performance.now() - this.sent > (worst ?? 0)) worst = performance.now() - this.sent;
    this.longest = null;
    return worst;
  },
};

// The socket, and the way back to it.
let socket, attempts = 0, retry;
const state = (name, words) => { $('state').dataset.state = name; put('state', words); };
function connect() {
  clearTimeout(retry);
  const url = new URL('/ws/stats', location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  const ws = socket = new WebSocket(url);
  ws.onopen = () => {
    attempts = 0;
    state('live', 'Live');
    trips.pending = false;
    trips.go();
  };
  ws.onmessage = event => event.data[0] === '{' ? show(JSON.parse(event.data)) : trips.back();
  ws.onclose = () => {
    if (ws !== socket) return;
    state('lost', 'Reconnecting');
    const wait = Math.min(10_000, 250 * 2 ** attempts++) * (0.75 + Math.random() / 2); // not all pages at once
    retry = setTimeout(connect, wait);
  };
}
addEventListener('online', () => { if (socket?.readyState === WebSocket.CLOSED) connect(); });

// The buttons.
class Run {
  n = 0;
  longest = 0;
  trip(took) { this.n++; this.longest = Math.max(this.longest, took); }
}
function tell(bold, rest) {
  const li = document.createElement('li'), b = document.createElement('b');
  b.textContent = bold;
  li.append(b, rest);
  const log = $('log');
  log.querySelector('.empty')?.remove();
  log.prepend(li);
  while (log.children.length > 4) log.lastChild.remove();
}
async function press(button) {
  const { target, name, times = 1 } = button.dataset;
  const run = new Run(), began = performance.now();
  running.add(run);
  trips.go();
  button.pressed = (button.pressed ?? 0) + 1;
  button.setAttribute('aria-busy', 'true');
  try {
    const codes = await Promise.all(Array.from({ length: times }, async () => {
      const response = await fetch(target, { cache: 'no-store' });
      await response.text();
      return response.status;
    }));
    const took = text(time(performance.now() - began));
    const what = times > 1 ? `${name}: ${times} answers in ${took}.` : `${name}: ${codes[0]} after ${took}.`;
    tell(what, run.n ? ` Meanwhile the loop answered this page ${run.n === 1 ? 'once' : run.n + ' times'}, within ${text(time(run.longest))} each.` : '');
  } catch {
    tell(`${name}: no answer.`, ' Is the server there?');
  } finally {
    running.delete(run);
    if (--button.pressed === 0) button.removeAttribute('aria-busy');
  }
}
for (const button of document.querySelectorAll('button[data-target]')) button.onclick = () => press(button);

connect();
