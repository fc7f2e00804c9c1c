// Package lines is what both Go clients share: the lines of the harness, see README.md beside it.
package lines

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

var out sync.Mutex

// Say prints one line.
func Say(words ...any) {
	out.Lock()
	defer out.Unlock()
	fmt.Println(words...)
}

// Fatal prints an error and ends the program.
func Fatal(what string, err error) {
	fmt.Fprintln(os.Stderr, what+":", err)
	os.Exit(1)
}

// TLS trusts the authority in this file.
func TLS(ca string) *tls.Config {
	pem, err := os.ReadFile(ca)
	if err != nil {
		Fatal("read the CA", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{
		RootCAs: roots, ServerName: "localhost", NextProtos: []string{"x-im/1"}, MinVersion: tls.VersionTLS13,
	}
}

// Show prints what a stream brings.
func Show(kind string, stream io.Reader) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := stream.Read(buffer)
		if n > 0 {
			Say(kind, hex.EncodeToString(buffer[:n]))
		}
		if err != nil {
			return
		}
	}
}

// Obey sends what it is told to, until it is told to quit.
func Obey(send func([]byte) error) {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<22)
	for input.Scan() {
		command, data, _ := strings.Cut(input.Text(), " ")
		if command == "quit" {
			return
		}
		bytes, err := hex.DecodeString(data)
		if err == nil {
			err = send(bytes)
		}
		if err != nil {
			Fatal("send", err)
		}
	}
}
