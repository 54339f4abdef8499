// Command static serves a folder, with compressed siblings where the server knows them: flare's
// Files, fasthttp's FS or net/http's FileServer.
package main

import (
	"flag"
	"log"
	"net/http"
	"os"

	"github.com/valyala/fasthttp"

	"flare"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	dir := flag.String("dir", ".", "folder to serve")
	server := flag.String("server", "flare", "flare, fasthttp or nethttp")
	loops := flag.Int("loops", 0, "event loops of flare")
	flag.Parse()
	switch *server {
	case "flare":
		mux := flare.NewMux()
		mux.Mount("/", &flare.Files{Dir: *dir})
		s := &flare.Server{Addr: *addr, Handler: mux, Loops: *loops}
		log.Fatal(s.ListenAndServe())
	case "fasthttp":
		// It compresses by itself and keeps what it has made, beside the files.
		files := &fasthttp.FS{Root: *dir, Compress: true, CompressedFileSuffix: ".gz", AcceptByteRange: true}
		log.Fatal((&fasthttp.Server{Handler: files.NewRequestHandler()}).ListenAndServe(*addr))
	case "nethttp":
		log.Fatal(http.ListenAndServe(*addr, http.FileServerFS(os.DirFS(*dir))))
	}
	log.Fatal("no such server")
}
