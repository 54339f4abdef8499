//go:build linux

package main

// This file says what is asked of a target: one workload value per kind of load, each a set of
// arguments for the generator. A new workload is a new value in makeWorkloads.

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A workload is one kind of load.
type workload struct {
	name  string
	about string
	args  []string // for load.c
	paced bool     // open loop: falling behind is a finding, not a fault
	depth int      // requests in one write
	needs string   // a path beside /plaintext that the target has to answer
	ws    bool     // echoes of WebSockets in place of requests
}

const (
	mixedConnections = 256
	mixedPercent     = 10
	mixedPath        = "/slow?ms=10"
	disturbedRate    = 5000
	stallEverySec    = 2

	// mixedSpare connections are more than an open loop with sleepers needs: none of its requests
	// may wait for a connection.
	mixedSpare = 1024

	sleepingConnections = 1000

	disturbedPath     = "/slow?ms=1000"
	disturbedEverySec = 1
	probeSlowPath     = "/slow?ms=1"
)

// workloadNames are all of them but those of the arena.
const workloadNames = "throughput, pipelined, paced, mixed, mixed-paced, sleeping, disturbed, stalls, ws-echo, idle, slow, transfer, static, ws-idle, ws-broadcast, tls, handshakes, idle-tls, h2, idle-h2, h2-stalls, h2-attacks, h2-transfer"

func makeWorkloads(names []string, o *options) ([]*workload, error) {
	var list []*workload
	conns := strconv.Itoa(o.conns)
	for _, name := range names {
		switch name {
		case "throughput":
			list = append(list, &workload{name: name, depth: 1,
				about: fmt.Sprintf("closed loop, %s connections", conns),
				args:  []string{"--connections", conns, "--spin-us", fmt.Sprint(o.spinClosed)}})
		case "pipelined":
			list = append(list, &workload{name: name, depth: o.depth,
				about: fmt.Sprintf("closed loop, %s connections, %d requests in one write", conns, o.depth),
				args:  []string{"--connections", conns, "--depth", strconv.Itoa(o.depth), "--spin-us", fmt.Sprint(o.spinClosed)}})
		case "paced":
			for _, rate := range o.rates {
				list = append(list, &workload{name: fmt.Sprintf("paced@%d", rate), paced: true, depth: 1,
					about: fmt.Sprintf("open loop, %d requests a second, %s arrivals, %s connections", rate, o.arrivals, conns),
					args:  pacedArgs(o, conns, rate)})
			}
		case "ws-echo":
			list = append(list, &workload{name: name, depth: 1, ws: true,
				about: fmt.Sprintf("closed loop, %s WebSockets, masked text messages of %d bytes and their echoes", conns, wsMessageBytes),
				args:  []string{"--connections", conns, "--websocket", strconv.Itoa(wsMessageBytes), "--path", "/ws", "--spin-us", fmt.Sprint(o.spinClosed)}})
		case "mixed":
			list = append(list, &workload{name: name, depth: 1, needs: probeSlowPath,
				about: fmt.Sprintf("closed loop, %d connections, %d %% of requests %s", mixedConnections, mixedPercent, mixedPath),
				args:  []string{"--connections", strconv.Itoa(mixedConnections), "--mix-percent", strconv.Itoa(mixedPercent), "--mix-path", mixedPath}})
		case "disturbed":
			list = append(list, &workload{name: name, paced: true, depth: 1, needs: probeSlowPath,
				about: fmt.Sprintf("open loop, %d requests a second, one %s every %d s beside them", disturbedRate, disturbedPath, disturbedEverySec),
				args: append(pacedArgs(o, conns, disturbedRate),
					"--disturb-path", disturbedPath, "--disturb-every", strconv.Itoa(disturbedEverySec))})
		case "mixed-paced":
			for _, rate := range o.rates {
				list = append(list, &workload{name: fmt.Sprintf("mixed@%d", rate), paced: true, depth: 1, needs: probeSlowPath,
					about: fmt.Sprintf("open loop, %d requests a second, %d %% of them %s", rate, mixedPercent, mixedPath),
					args:  append(pacedArgs(o, strconv.Itoa(mixedSpare), rate), "--mix-percent", strconv.Itoa(mixedPercent), "--mix-path", mixedPath)})
			}
		case "sleeping":
			list = append(list, &workload{name: name, depth: 1, needs: probeSlowPath,
				about: fmt.Sprintf("closed loop, %d connections, every request %s", sleepingConnections, mixedPath),
				args:  []string{"--connections", strconv.Itoa(sleepingConnections), "--path", mixedPath}})
		case "stalls":
			list = append(list, stalls(o, conns)...)
		default:
			return nil, fmt.Errorf("no workload %q: there are %s", name, workloadNames)
		}
	}
	return list, nil
}

// stalls are paced loads with a call beside them that waits, in each of the ways that package waits
// has: on a route of its own ("fresh": it never was quick), and on the very route of the others,
// which has proven to be quick ("proven").
func stalls(o *options, conns string) []*workload {
	load := func(name, about, path, disturb string) *workload {
		args := append(pacedArgs(o, conns, disturbedRate), "--path", path)
		if disturb != "" {
			args = append(args, "--disturb-path", disturb, "--disturb-every", strconv.Itoa(stallEverySec))
		}
		return &workload{name: name, paced: true, depth: 1, needs: "/work?ms=1&how=chan", args: args,
			about: fmt.Sprintf("open loop, %d requests a second to %s%s", disturbedRate, path, about)}
	}
	list := []*workload{load("stall-none", "", "/work", "")}
	for _, stall := range []struct {
		how string
		ms  int
	}{{"sleep", 1000}, {"block", 1000}, {"chan", 1000}, {"spin", 300}} {
		query := fmt.Sprintf("?ms=%d&how=%s", stall.ms, stall.how)
		about := fmt.Sprintf(", every %d s one that takes %d ms (%s)", stallEverySec, stall.ms, stall.how)
		list = append(list,
			load("stall-"+stall.how+"-fresh", about+" on a route of its own", "/work", "/slow"+query),
			load("stall-"+stall.how+"-proven", about+" on the same route", "/work", "/work"+query))
	}
	return list
}

func pacedArgs(o *options, conns string, rate int) []string {
	return []string{"--connections", conns, "--rate", strconv.Itoa(rate), "--arrivals", o.arrivals, "--spin-us", fmt.Sprint(o.spinPaced)}
}

// splitList splits a,b,c and drops empty parts.
func splitList(s string) []string {
	return slices.DeleteFunc(strings.Split(s, ","), func(p string) bool { return p == "" })
}
