// The board: forms work without this; with it, what others change is shown as they do.
'use strict';

const $ = id => document.getElementById(id);
const put = (e, text) => { if (e.textContent !== text) e.textContent = text; };
let version = Number(document.querySelector('main').dataset.version);
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
for (const time of document.querySelectorAll('time')) put(time, clock.format(new Date(time.dateTime)));

function state(name, words) {
  $('state').dataset.state = name;
  put($('state'), words);
}

// A stream of server-sent events, which the browser opens again when it breaks. The
// last version that it has seen goes with the request, and what it has missed comes.
const events = new EventSource('/events');
events.onopen = () => state('live', 'Live');
events.onerror = () => {
  if (events.readyState !== EventSource.CLOSED) return state('lost', 'Reconnecting');
  state('lost', 'Not connected');
  setTimeout(() => location.reload(), 2000); // refused: to log in
};
events.addEventListener('service', event => {
  version = Math.max(version, Number(event.lastEventId));
  const s = JSON.parse(event.data), card = $('service-' + s.name);
  if (!card) return;
  const at = new Date(s.at);
  card.dataset.state = s.state;
  put(card.querySelector('.badge'), s.state);
  put(card.querySelector('.note'), s.note || 'Nothing to say.');
  put(card.querySelector('.by'), s.by ? s.by + ', ' : '');
  Object.assign(card.querySelector('time'), { dateTime: s.at, textContent: clock.format(at) });
  if (!card.querySelector('details').open) { // nobody is writing there
    card.querySelector(`[value="${s.state}"]`).checked = true;
    card.querySelector('[name=note]').value = s.note;
  }
  $('notice').hidden = false;
  put($('notice'), `${s.name} is ${s.state}, says ${s.by}.`);
});
const rates = [];
events.addEventListener('figures', event => {
  const f = JSON.parse(event.data);
  if (f.version > version && !document.querySelector('details[open]')) return location.reload(); // it was away for long
  put($('rate'), f.rate.toLocaleString());
  put($('open'), f.open.toLocaleString());
  put($('watch'), f.watch.toLocaleString());
  rates.push(f.rate);
  if (rates.length > 60) rates.shift();
  const top = Math.max(5, ...rates) * 1.05;
  const line = rates.map((v, i) => `${60 - rates.length + i},${(40 - v / top * 40).toFixed(1)}`).join('L');
  document.querySelector('#chart .line').setAttribute('d', 'M' + line + 'h0');
  document.querySelector('#chart .area').setAttribute('d', `M${60 - rates.length},40L${line}V40Z`);
});
