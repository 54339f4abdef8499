//go:build linux

package main

// This file runs the load generator (load.c) once and reads what it reports.

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"time"
)

// loadReport is the generator's line. Counts are of the measured window unless they say total.
type loadReport struct {
	Mode                string            `json:"mode"`
	WindowNS            uint64            `json:"window_ns"`
	Answered            uint64            `json:"answered"`
	SentTotal           uint64            `json:"sent_total"`
	AnsweredTotal       uint64            `json:"answered_total"`
	Unanswered          uint64            `json:"unanswered"` // of all, after the drain
	Unsent              uint64            `json:"unsent"`     // due, and no connection ever free
	QueuedForConnection uint64            `json:"queued_for_connection"`
	DisturbSkipped      uint64            `json:"disturb_skipped"`
	CPUNS               uint64            `json:"cpu_ns"`
	TickUserNS          uint64            `json:"tick_user_ns"`
	TickAllNS           uint64            `json:"tick_all_ns"`
	TickNS              uint64            `json:"tick_ns"`
	Voluntary           uint64            `json:"voluntary"`
	Involuntary         uint64            `json:"involuntary"`
	GeneratorCPUNS      uint64            `json:"generator_cpu_ns"`
	Errors              map[string]uint64 `json:"errors"`
	FirstError          string            `json:"first_error"`
	Lateness            histogram         `json:"lateness"`
	Classes             []loadClass       `json:"classes"`
}

type loadClass struct {
	Name        string    `json:"name"` // main, mix, disturb
	Path        string    `json:"path"`
	AnswerBytes int       `json:"answer_bytes"`
	Latency     histogram `json:"latency"`
}

func (r *loadReport) errorCount() (n uint64) {
	for _, c := range r.Errors {
		n += c
	}
	return n
}

func (r *loadReport) class(name string) *loadClass {
	for i := range r.Classes {
		if r.Classes[i].Name == name {
			return &r.Classes[i]
		}
	}
	return nil
}

func parseLoadReport(line []byte) (*loadReport, error) {
	r := new(loadReport)
	if err := json.Unmarshal(line, r); err != nil {
		return nil, fmt.Errorf("the generator's report: %w", err)
	}
	return r, nil
}

// loadSlack is how much longer than warm-up, window and its own drain the generator may take.
const loadSlack = 15 * time.Second

// A generator is the compiled load.c and where it runs.
type generator struct {
	program string
	cores   []int
	fleet   *fleet
}

// run puts load on addr. pid is the server whose CPU time counts, 0 for none.
func (g *generator) run(ctx context.Context, addr string, pid int, warmup, seconds float64, args ...string) (*loadReport, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	argv := append([]string{g.program, "--port", port, "--pid", strconv.Itoa(pid),
		"--warmup", fmt.Sprint(warmup), "--seconds", fmt.Sprint(seconds)}, args...)
	ctx, cancel := context.WithTimeout(ctx, time.Duration((warmup+seconds)*float64(time.Second))+loadSlack)
	defer cancel()
	p, err := g.fleet.start("load", argv, nil, g.cores)
	if err != nil {
		return nil, err
	}
	if err := p.wait(ctx); err != nil {
		return nil, err
	}
	return parseLoadReport(p.stdout.Bytes())
}
