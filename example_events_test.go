package flare_test

import (
	"bufio"
	"fmt"
	"log"
	"net/http"

	"flare"
)

// A client that comes back gets what it has missed, and then what there is to say.
func ExampleHub() {
	hub := &flare.Hub{MaxHistory: 100}
	for i, text := range []string{"one", "two", "three"} {
		if _, err := hub.Broadcast(flare.ServerSentEvent{ID: fmt.Sprint(i + 1), Data: text}); err != nil {
			log.Fatal(err)
		}
	}
	t := new(exampleT)
	defer t.end()
	client := flare.TestClient(t, &flare.Server{Handler: hub})
	req, err := http.NewRequest("GET", "http://example.com/", nil)
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", "1")
	resp, err := client.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		fmt.Println(lines.Text())
		if lines.Text() == "data: three" {
			break
		}
	}
	// Output:
	// id: 2
	// data: two
	//
	// id: 3
	// data: three
}
