#!/bin/sh
# Runs the tests with the kqueue poller in place of the epoll one, on Linux:
#
#	go test -overlay "$(sh testdata/kqueue/overlay.sh)" .
#
# Prints the path of the overlay it wrote (go help build, -overlay): package
# syscall gains a model of kqueue(2), poller_linux.go becomes the text of
# poller_darwin.go, and its own tests and the model's join the package. The first run
# compiles the standard library anew, about a minute; the build cache has it then.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
goroot=$(go env GOROOT)
json=$(mktemp -d)/overlay.json
cat >"$json" <<JSON
{"Replace": {
	"$goroot/src/syscall/kqueue_model_linux.go": "$here/kqueue.go",
	"$root/kqueue_model_test.go": "$here/kqueue_test.go",
	"$root/poller_kqueue_test.go": "$root/poller_darwin_test.go",
	"$root/poller_linux.go": "$root/poller_darwin.go"
}}
JSON
echo "$json"
