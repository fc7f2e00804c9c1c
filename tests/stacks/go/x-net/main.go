// golang.org/x/net/quic as a client of the harness.
package main

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/net/quic"

	"stacks/lines"
)

func main() {
	ctx := context.Background()
	config := &quic.Config{TLSConfig: lines.TLS(os.Args[2]), MaxIdleTimeout: 2 * time.Minute}
	endpoint, err := quic.Listen("udp", "127.0.0.1:0", nil)
	if err != nil {
		lines.Fatal("listen", err)
	}
	conn, err := endpoint.Dial(ctx, "udp", os.Args[1], config)
	if err != nil {
		lines.Fatal("connect", err)
	}
	lines.Say("connected")
	stream, err := conn.NewStream(ctx)
	if err != nil {
		lines.Fatal("open a stream", err)
	}
	go lines.Show("bidi", stream)
	go func() {
		for {
			pushes, err := conn.AcceptStream(ctx)
			if err != nil {
				return
			}
			go lines.Show("uni", pushes)
		}
	}()
	go func() {
		err := conn.Wait(ctx)
		var closed *quic.ConnectionCloseError
		if errors.As(err, &closed) {
			lines.Say("closed", closed.Code)
		} else {
			lines.Say("closed", err)
		}
	}()
	lines.Obey(func(data []byte) error {
		_, err := stream.Write(data)
		if err == nil {
			err = stream.Flush()
		}
		return err
	})
	conn.Abort(&quic.ConnectionCloseError{Code: 0, Reason: "bye"})
	deadline, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	endpoint.Close(deadline)
}
