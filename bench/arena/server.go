package arena

import (
	"flag"
	"fmt"
	"log"
	"net"
)

// A Server is one of the arena, of whatever library.
type Server interface {
	Serve(l net.Listener) error
	ServeTLS(l net.Listener, certFile, keyFile string) error
}

// Main runs a server by the command line that all of the arena have. newServer makes it, of the
// directory with the files to send.
func Main(name string, newServer func(files string) Server) {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	files := flag.String("files", "", "directory with the files to send")
	cert := flag.String("cert", "", "certificate, PEM: serve HTTPS")
	key := flag.String("key", "", "its key")
	flag.Parse()

	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: serving on http://%s\n", name, l.Addr())
	server := newServer(*files)
	if *cert != "" {
		log.Fatal(server.ServeTLS(l, *cert, *key))
	}
	log.Fatal(server.Serve(l))
}
