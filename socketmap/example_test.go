package socketmap_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"github.com/policyd/policyd/socketmap"
)

func Example() {
	// A server with one map.
	var mux socketmap.Mux
	mux.Handle("colour", socketmap.HandlerFunc(func(_ context.Context, r socketmap.Request) socketmap.Reply {
		if r.Key == "sky" {
			return socketmap.OK("blue")
		}
		return socketmap.NotFound()
	}))
	ctx := context.Background()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &socketmap.Server{Handler: &mux}
	served := make(chan error)
	go func() { served <- server.Serve(l) }()

	// A client, as Postfix is one.
	client, err := socketmap.Dial(ctx, l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	for _, key := range []string{"sky", "sea"} {
		reply, err := client.Lookup(ctx, socketmap.Request{Map: "colour", Key: key})
		fmt.Printf("%q %v\n", reply.String(), err)
	}
	_ = client.Close()

	if err := server.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-served)
	// Output:
	// "OK blue" <nil>
	// "NOTFOUND " <nil>
	// socketmap: server closed
}
