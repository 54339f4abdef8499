//go:build linux

package main

// This file turns the rows of the arena into one table, in Markdown and as a picture. It measures
// nothing.

import (
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// arenaColumns is the order of the table. Targets of the command line come behind it.
var arenaColumns = []string{nameFlare, nameNetHTTP, nameFast, nameNginx}

// An arenaLine is one profile: CPU time per request of each target in µs, 0 where it was not asked.
type arenaLine struct {
	name, about string
	cpu         map[string]float64
}

func arenaLines(rows []*row, profiles []*profile) (list []arenaLine, columns []string) {
	seen := make(map[string]bool)
	for _, p := range profiles {
		line := arenaLine{p.name, p.about, make(map[string]float64)}
		for _, r := range rows {
			if r.Workload == p.name {
				line.cpu[r.Target] = r.Median.CPU
				seen[r.Target] = true
			}
		}
		list = append(list, line)
	}
	for _, name := range arenaColumns {
		if seen[name] {
			columns = append(columns, name)
		}
		delete(seen, name)
	}
	for _, r := range rows {
		if seen[r.Target] {
			columns = append(columns, r.Target)
			delete(seen, r.Target)
		}
	}
	return list, columns
}

// against is flare's CPU time beside the least of others, 0 without any.
func (l *arenaLine) against(others ...string) float64 {
	least := 0.0
	for _, name := range others {
		if v := l.cpu[name]; v > 0 && (least == 0 || v < least) {
			least = v
		}
	}
	if least == 0 {
		return 0
	}
	return l.cpu[nameFlare] / least
}

func (l *arenaLine) cell(name string) string {
	if v := l.cpu[name]; v > 0 {
		return arenaMicros(v)
	}
	return ""
}

// arenaMicros keeps three digits.
func arenaMicros(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// arenaMarkdown is the table.
func arenaMarkdown(res *results, lines []arenaLine, columns []string) string {
	var b strings.Builder
	m := res.Machine
	fmt.Fprintf(&b, "CPU time of the server's process per request, in µs: medians of %v windows of %v s each, on %s, Linux %s, %s.\n\n",
		res.Settings["rounds"], res.Settings["seconds"], m.CPU, m.Kernel, m.Go)
	fmt.Fprintf(&b, "| profile | %s | of the best of net/http and fasthttp | of nginx |\n", strings.Join(columns, " | "))
	fmt.Fprintf(&b, "|---|%s---:|---:|\n", strings.Repeat("---:|", len(columns)))
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s |", l.name)
		for _, name := range columns {
			fmt.Fprintf(&b, " %s |", l.cell(name))
		}
		for _, r := range []float64{l.against(nameNetHTTP, nameFast), l.against(nameNginx)} {
			if r > 0 {
				fmt.Fprintf(&b, " %.2f |", r)
			} else {
				b.WriteString(" |")
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString("\nThe profiles:\n\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "- %s: %s\n", l.name, l.about)
	}
	return b.String()
}

// Measures of the picture, in pixels.
const (
	svgLabel   = 200
	svgBars    = 460
	svgBar     = 11
	svgGap     = 10
	svgWide    = svgLabel + svgBars + 80
	svgTop     = 40
	svgLetters = 11
)

var svgColours = []string{"#d9480f", "#1971c2", "#2f9e44", "#868e96", "#9c36b5", "#e8590c"}

// arenaSVG is the table as bars. The longest of each profile has the full width: what is compared is
// within a profile.
func arenaSVG(lines []arenaLine, columns []string) string {
	var b strings.Builder
	y := svgTop
	text := func(x, y int, anchor, s string) {
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
	}
	for i, name := range columns {
		x := svgLabel + i*110
		fmt.Fprintf(&b, `<rect x="%d" y="12" width="10" height="10" fill="%s"/>`+"\n", x, svgColours[i%len(svgColours)])
		text(x+15, 21, "start", name)
	}
	for _, l := range lines {
		most := 0.0
		for _, v := range l.cpu {
			most = max(most, v)
		}
		text(svgLabel-8, y+svgBar-2, "end", l.name)
		for i, name := range columns {
			v := l.cpu[name]
			if v == 0 {
				continue
			}
			wide := v / most * svgBars
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", svgLabel, y, wide, svgBar-1, svgColours[i%len(svgColours)])
			text(svgLabel+int(wide)+4, y+svgBar-2, "start", arenaMicros(v)+" µs")
			y += svgBar
		}
		y += svgGap
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="%d">`+"\n"+
		`<title>CPU time of the server per request: shorter is better</title>`+"\n"+
		`<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n%s</svg>\n", svgWide, y+svgGap, svgLetters, b.String())
}

// writeArena prints the table, and writes it beside the JSON file: the same name with .md and .svg.
func writeArena(res *results, profiles []*profile, file string, out io.Writer) error {
	lines, columns := arenaLines(res.Rows, profiles)
	table := arenaMarkdown(res, lines, columns)
	fmt.Fprintf(out, "\n%s", table)
	if file == "" {
		return nil
	}
	base := strings.TrimSuffix(res.fileName(file), ".json")
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(base+".md", []byte(table), 0o644); err != nil {
		return err
	}
	return os.WriteFile(base+".svg", []byte(arenaSVG(lines, columns)), 0o644)
}
