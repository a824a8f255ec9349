package socketmap_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/policyd/policyd/socketmap"
)

func colours(_ context.Context, r socketmap.Request) socketmap.Reply {
	if r.Key == "sky" {
		return socketmap.OK("blue")
	}
	return socketmap.NotFound()
}

// A server with one map and a client that asks it.
func Example() {
	mux := &socketmap.Mux{}
	mux.Handle("colour", socketmap.HandlerFunc(colours))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &socketmap.Server{Handler: mux}
	go func() { _ = server.Serve(l) }()
	defer func() { _ = server.Close() }()

	client, err := socketmap.Dial(context.Background(), l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for _, key := range []string{"sky", "sea"} {
		reply, err := client.Lookup(context.Background(), socketmap.Request{Map: "colour", Key: key})
		fmt.Printf("%q %v\n", reply.String(), err)
	}
	// Output:
	// "OK blue" <nil>
	// "NOTFOUND " <nil>
}

// A map name selects the handler. Maps can be added and removed while the server runs.
func ExampleMux() {
	mux := &socketmap.Mux{}
	mux.Handle("colour", socketmap.HandlerFunc(colours))
	for _, name := range []string{"colour", "color"} {
		fmt.Println(mux.ServeSocketmap(context.Background(), socketmap.Request{Map: name, Key: "sky"}))
	}
	// Output:
	// OK blue
	// PERM unknown map "color": use colour
}

// Every field of Limits has a default; set those that should differ.
func ExampleServer() {
	server := &socketmap.Server{
		Handler: socketmap.HandlerFunc(colours),
		Limits:  socketmap.Limits{MaxConnections: 100, IdleTimeout: time.Minute},
	}
	fmt.Println(server.Close())
	// Output: <nil>
}

// Shutdown answers the requests that have begun to arrive, for at most five seconds.
func ExampleServer_Shutdown() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &socketmap.Server{Handler: socketmap.HandlerFunc(colours)}
	served := make(chan error)
	go func() { served <- server.Serve(l) }()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	fmt.Println(server.Shutdown(ctx))
	fmt.Println(<-served)
	// Output:
	// <nil>
	// socketmap: server closed
}

// NewClient uses any connection, here one to a server that closes it without a reply.
func ExampleNewClient() {
	ours, theirs := net.Pipe()
	go func() {
		_, _ = theirs.Read(make([]byte, 100))
		_ = theirs.Close()
	}()
	client := socketmap.NewClient(ours)
	reply, err := client.Lookup(context.Background(), socketmap.Request{Map: "colour", Key: "sky"})
	fmt.Println(reply.Status, err)
	// Output: TEMP socketmap: lookup: EOF
}
