// The page of the chat: a form to come in by, and a room, whose WebSocket is opened
// again, after longer and longer waits, when it breaks.
'use strict';

const $ = id => document.getElementById(id);
const element = (name, className, text = '') => Object.assign(document.createElement(name), { className, textContent: text });

let ws = null;  // of the room that we are in
let me = null;  // name, room, and the key by which the room knows us again
let last = 0;   // the time of the last line that we have
let attempts = 0, retry = 0, unread = 0;
const waitMax = 15_000;

function state(name, words) {
  $('state').hidden = name === 'out';
  $('state').dataset.state = name;
  if ($('state').textContent !== words) $('state').textContent = words;
  $('now').hidden = name !== 'lost';
}

function title() {
  const where = me ? me.room : 'flare chat';
  $('title').textContent = where;
  document.title = (unread ? `(${unread}) ` : '') + (me ? where + ' – flare chat' : where);
}

// Into a room, and out of it.
function enter(name, room) {
  me = { name, room, key: crypto.randomUUID?.() ?? String(Math.random()) };
  last = attempts = unread = 0;
  $('lines').replaceChildren();
  $('who').replaceChildren();
  $('refused').textContent = '';
  state('wait', 'Connecting');
  connect();
}
function connect() {
  clearTimeout(retry);
  const url = new URL('/rooms/' + encodeURIComponent(me.room), location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  url.search = new URLSearchParams({ name: me.name, key: me.key, after: last });
  const socket = ws = new WebSocket(url);
  socket.onmessage = event => {
    if (socket !== ws) return;
    if (attempts >= 0) inside(); // the first that is heard: we were let in
    for (const line of JSON.parse(event.data)) show(line);
  };
  socket.onclose = event => {
    if (socket !== ws) return;
    if (event.code === 1008) return out(event.reason);
    state('lost', 'Reconnecting');
    const wait = Math.min(waitMax, 500 * 2 ** Math.max(0, attempts)) * (0.75 + Math.random() / 2); // not all at once
    attempts = Math.max(0, attempts) + 1;
    retry = setTimeout(connect, wait);
  };
}
function inside() {
  attempts = -1;
  state('live', 'Connected');
  if (!$('inside').hidden) return;
  $('enter').hidden = true;
  $('inside').hidden = $('leave').hidden = false;
  history.replaceState(null, '', '#' + encodeURIComponent(me.room));
  title();
  $('text').focus();
}
function out(reason = '') {
  clearTimeout(retry);
  const socket = ws;
  ws = me = null;
  socket?.close();
  unread = 0;
  state('out', '');
  $('inside').hidden = $('leave').hidden = true;
  $('enter').hidden = false;
  title();
  $('refused').textContent = reason;
  $('name').focus();
}
function again() {
  if (me && ws?.readyState === WebSocket.CLOSED) {
    attempts = 0;
    state('wait', 'Connecting');
    connect();
  }
}

// What comes.
let atEnd = true; // of what is said: whoever reads further up stays there
const toEnd = () => { $('lines').scrollTop = $('lines').scrollHeight; };
let shape = '';
const settle = () => {
  const { scrollHeight, scrollTop, clientHeight } = $('lines'), now = scrollHeight + ' ' + clientHeight;
  if (now === shape) {
    atEnd = scrollHeight - scrollTop - clientHeight < 60; // somebody has scrolled
  } else if (shape = now, atEnd) {
    toEnd(); // there is more, or less room: the keyboard of a phone
  }
};
$('lines').onscroll = settle;
new ResizeObserver(settle).observe($('lines'));
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
let before = {}; // the line before, as it is shown
function show(line) {
  last = Math.max(last, line.at);
  if (line.who) who(line.who);
  if (!line.text) return;
  const lines = $('lines');
  const at = new Date(line.at);
  const time = Object.assign(element('time', '', clock.format(at)), { dateTime: at.toISOString(), title: at.toLocaleString() });
  const own = line.name === me.name;
  let li;
  if (line.name) {
    li = element('li', 'said' + (own ? ' own' : ''));
    // More of the same, soon after: its name and time need not be seen again.
    if (lines.lastChild?.classList.contains('said') && before.name === line.name && line.at - before.at < 180_000) li.classList.add('more');
    li.append(element('span', 'name', own ? 'You' : line.name), time, element('p', 'text', line.text));
  } else {
    li = element('li', 'event');
    li.append(line.text + ' ', time);
  }
  before = line;
  lines.append(li);
  while (lines.children.length > 500) lines.firstChild.remove();
  $('silence').hidden = lines.querySelector('.said') !== null;
  if (own) atEnd = true;
  settle();
  if (document.hidden && line.name && !own) {
    unread++;
    title();
  }
}
function who(names) {
  $('who-name').textContent = names.length === 1 ? 'Only you' : names.length + ' here';
  $('who').replaceChildren(...names.map(name => {
    const li = element('li', name === me.name ? 'own' : '', name);
    if (name === me.name) li.append(element('small', '', ' (you)'));
    return li;
  }));
}

// What is done here.
$('enter').onsubmit = event => {
  event.preventDefault();
  const name = $('name').value.trim(), room = $('room').value.trim();
  if (!name || !room) return;
  try { localStorage.setItem('name', name); } catch {} // it is a convenience
  enter(name, room);
};
$('say').onsubmit = event => {
  event.preventDefault();
  const text = $('text').value.trim();
  if (!text) return;
  if (ws?.readyState !== WebSocket.OPEN) return again(); // the text stays until it can be sent
  ws.send(text);
  $('text').value = '';
  $('text').focus();
};
$('text').onkeydown = event => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $('say').requestSubmit();
};
$('now').onclick = again;
$('leave').onclick = () => out();
addEventListener('online', again);
addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  unread = 0;
  title();
  again(); // a phone that was asleep
});
try { $('name').value = localStorage.getItem('name') ?? ''; } catch {}
try { if (location.hash.length > 1) $('room').value = decodeURIComponent(location.hash.slice(1)); } catch {}
$($('name').value ? 'room' : 'name').focus();
