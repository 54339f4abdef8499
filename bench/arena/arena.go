// Package arena has what the servers of the arena answer with, and what the harness expects of
// them: rows of JSON, and bytes to download; and the command line that they have. It knows no library.
package arena

import (
	"encoding/json"
	"strconv"
)

// RowsMax is how many rows there are.
const RowsMax = 50

// A Rating is what customers think.
type Rating struct {
	Score float64 `json:"score"`
	Count int     `json:"count"`
}

// A Row is an item of a shop. Total is worked out for each answer.
type Row struct {
	ID       int      `json:"id"`
	Name     string   `json:"name"`
	Category string   `json:"category"`
	Price    float64  `json:"price"`
	Quantity int      `json:"quantity"`
	Active   bool     `json:"active"`
	Tags     []string `json:"tags"`
	Rating   Rating   `json:"rating"`
	Total    float64  `json:"total"`
}

// Rows is an answer.
type Rows struct {
	Items []Row `json:"items"`
	Count int   `json:"count"`
}

var rows = makeRows()

func makeRows() []Row {
	words := []string{"amber", "basalt", "cedar", "damask", "ember", "flint", "granite", "hazel", "indigo", "jasper",
		"kelp", "linen", "maple", "nickel", "ochre", "pewter", "quartz", "russet", "slate", "topaz"}
	kinds := []string{"tools", "garden", "kitchen", "lighting", "paper", "travel"}
	seed := uint32(1)
	next := func(n int) int {
		seed = seed*1664525 + 1013904223
		return int(seed>>8) % n
	}
	list := make([]Row, RowsMax)
	for i := range list {
		list[i] = Row{
			ID: 1000 + i, Name: words[next(20)] + " " + words[next(20)] + " " + strconv.Itoa(next(1000)),
			Category: kinds[next(len(kinds))], Price: float64(next(100_000)) / 100, Quantity: next(500), Active: next(3) > 0,
			Tags:   []string{words[next(20)], words[next(20)], words[next(20)]},
			Rating: Rating{float64(next(50)) / 10, next(10_000)},
		}
	}
	return list
}

// Answer has the first n rows, worked out with factor m; false for numbers that there are no rows for.
func Answer(n, m int) (Rows, bool) {
	if n < 1 || n > len(rows) || m < 1 || m > 1000 {
		return Rows{}, false
	}
	items := make([]Row, n)
	for i := range items {
		items[i] = rows[i]
		items[i].Total = items[i].Price * float64(items[i].Quantity*m)
	}
	return Rows{items, n}, true
}

// AnswerText is what Answer has to be sent as.
func AnswerText(n, m int) string {
	answer, _ := Answer(n, m)
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// Sizes are those of the downloads, by name.
var Sizes = map[string]int{"100k": 100_000, "1m": 1 << 20, "16m": 16 << 20}

// Download makes the bytes of a download. They repeat late, and are the same in each process.
func Download(name string) []byte {
	p := make([]byte, Sizes[name])
	seed := uint32(len(p))
	for i := range p {
		seed = seed*1664525 + 1013904223
		p[i] = byte(seed >> 24)
	}
	return p
}

// Downloads makes all of them.
func Downloads() map[string][]byte {
	all := make(map[string][]byte)
	for name := range Sizes {
		all[name] = Download(name)
	}
	return all
}
