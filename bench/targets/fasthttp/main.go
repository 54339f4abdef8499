// Command fasthttp answers the benchmark's requests with fasthttp as its documentation would.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	contentType := flag.String("type", "text/plain", "Content-Type of the answers")
	flag.Parse()

	handler := func(ctx *fasthttp.RequestCtx) {
		switch string(ctx.Path()) {
		case "/slow":
			time.Sleep(time.Duration(ctx.QueryArgs().GetUintOrZero("ms")) * time.Millisecond)
		case "/plaintext":
		default:
			ctx.Error("not found", fasthttp.StatusNotFound)
			return
		}
		ctx.SetContentType(*contentType)
		ctx.SetBodyString("Hello, World!")
	}

	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("fasthttp: serving on http://%s\n", l.Addr())
	// No Server header: every target sends the same number of bytes.
	server := &fasthttp.Server{Handler: handler, NoDefaultServerHeader: true}
	log.Fatal(server.Serve(l))
}
