package flare

import (
	"slices"
	"strings"
)

// This file is layer 5 (surface): the patterns of a Mux as a list.

// Routes returns the patterns of all routes in the order in which they were
// registered, each as Request.Pattern would have it: those of mounted muxes behind
// their prefixes. A handler that is mounted and no Mux has its prefix with a slash
// behind it.
func (m *Mux) Routes() []string { return m.appendRoutes(nil, "", "", nil) }

// appendRoutes appends the patterns of m, which is mounted in the given muxes.
func (m *Mux) appendRoutes(routes []string, host, prefix string, within []*Mux) []string {
	if slices.Contains(within, m) {
		return routes // a mux in itself has no end
	}
	within = append(within, m)
	m.mu.Lock()
	entries := slices.Clone(m.entries)
	m.mu.Unlock()
	for _, e := range entries {
		p := e.pattern
		at := host
		if p.host != "" {
			at = p.host
		}
		path := prefix + patternPath(p.text)
		if e.mounted {
			if !strings.HasSuffix(p.text, "/") {
				continue // the prefix itself, which comes with what is below it
			}
			if e.inner != nil {
				routes = e.inner.appendRoutes(routes, at, strings.TrimSuffix(path, "/"), within)
				continue
			}
		}
		method := p.method
		if method != "" {
			method += " "
		}
		routes = append(routes, method+at+path)
	}
	return routes
}
