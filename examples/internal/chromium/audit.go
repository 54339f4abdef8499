//go:build unix

package chromium

// audit is an expression that lists what is hard to read or to use in a page: the
// rules are those of WCAG 2.2 for contrast (1.4.3), names (4.1.2) and the size of what
// is touched (2.5.8).
const audit = `(() => {
	const faults = [];
	const seen = e => e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) && e.getClientRects().length > 0;
	const called = e => e.tagName.toLowerCase() + (e.id ? '#' + e.id : '') + ' ' + JSON.stringify(e.textContent.trim().slice(0, 40));
	const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true }), known = new Map();
	const rgba = text => {
		if (!known.has(text)) {
			canvas.clearRect(0, 0, 1, 1);
			canvas.fillStyle = text;
			canvas.fillRect(0, 0, 1, 1);
			known.set(text, [...canvas.getImageData(0, 0, 1, 1).data]);
		}
		return known.get(text);
	};
	const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] / 255 + under[i] * (1 - top[3] / 255)).concat(255);
	const behind = e => {
		const layers = [];
		for (; e; e = e.parentElement) {
			const c = rgba(getComputedStyle(e).backgroundColor);
			layers.push(c);
			if (c[3] === 255) break;
		}
		return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 255]);
	};
	const light = c => c.slice(0, 3).map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	for (const e of document.querySelectorAll('body *')) {
		if (!seen(e) || e.closest('[disabled], svg')) continue;
		if (getComputedStyle(e).clipPath === 'inset(50%)') continue; // for screen readers
		const text = [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim());
		const style = getComputedStyle(e);
		if (text) {
			const under = behind(e), top = over(rgba(style.color), under);
			const [a, b] = [light(top), light(under)].sort((x, y) => y - x);
			const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
			const ratio = (a + 0.05) / (b + 0.05);
			if (ratio < (large ? 3 : 4.5)) faults.push('contrast of ' + ratio.toFixed(2) + ': ' + called(e));
			if (parseFloat(style.fontSize) < 11.9) faults.push('text of ' + style.fontSize + ': ' + called(e));
			if (style.overflowX !== 'visible' && !['auto', 'scroll'].includes(style.overflowX) && e.scrollWidth > e.clientWidth + 1 && style.textOverflow !== 'ellipsis')
				faults.push('text that is cut off: ' + called(e));
		}
		if (e.matches('button, input, select, textarea, [tabindex="0"]')) {
			const box = e.getBoundingClientRect();
			if (!e.matches('[type=checkbox], [type=radio]') && Math.min(box.width, box.height) < 24) faults.push('too small to touch: ' + called(e));
			if (!(e.textContent.trim() || e.ariaLabel || e.getAttribute('aria-labelledby') || [...(e.labels || [])].some(l => l.textContent.trim())))
				faults.push('a control without a name: ' + called(e));
		}
		if (e.matches('svg:not([aria-hidden=true], [role=img][aria-label]), img:not([alt])')) faults.push('a picture without a text: ' + called(e));
	}
	if (!document.documentElement.lang) faults.push('the page has no language');
	if (!document.title) faults.push('the page has no title');
	if (document.querySelectorAll('h1').length !== 1) faults.push('not one h1');
	if (!document.querySelector('main')) faults.push('no main');
	return faults;
})()`
