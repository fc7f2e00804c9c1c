// quic-go as a client of the harness.
package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/quic-go/quic-go"

	"stacks/lines"
)

func main() {
	ctx := context.Background()
	config := &quic.Config{MaxIdleTimeout: 2 * time.Minute}
	conn, err := quic.DialAddr(ctx, os.Args[1], lines.TLS(os.Args[2]), config)
	if err != nil {
		lines.Fatal("connect", err)
	}
	lines.Say("connected")
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		lines.Fatal("open a stream", err)
	}
	go lines.Show("bidi", stream)
	go func() {
		for {
			pushes, err := conn.AcceptUniStream(ctx)
			if err != nil {
				return
			}
			go lines.Show("uni", pushes)
		}
	}()
	go func() {
		<-conn.Context().Done()
		var closed *quic.ApplicationError
		if errors.As(context.Cause(conn.Context()), &closed) {
			lines.Say("closed", uint64(closed.ErrorCode))
		} else {
			lines.Say("closed", context.Cause(conn.Context()))
		}
	}()
	lines.Obey(func(data []byte) error {
		_, err := stream.Write(data)
		return err
	})
	conn.CloseWithError(0, "bye")
}
