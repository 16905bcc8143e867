// Command remotedialer-peer is the tunnel that Rancher's users have today, as the benchmark's other way: its server and its
// agent, with as little around them as the benchmark's own ends have. Both end when their standard input does.
//
//	remotedialer-peer server CERTIFICATE KEY TARGET    prints "entry ADDRESS" and "agents ADDRESS"
//	remotedialer-peer agent CA AGENTS                  dials out; what the target is, the server says
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/gorilla/websocket"
	"github.com/rancher/remotedialer"
)

const name = "agent"

func main() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	arguments := os.Args[1:]
	var err error
	switch {
	case len(arguments) == 4 && arguments[0] == "server":
		err = server(arguments[1], arguments[2], arguments[3])
	case len(arguments) == 3 && arguments[0] == "agent":
		err = agent(arguments[1], arguments[2])
	default:
		err = errors.New("usage: remotedialer-peer server CERTIFICATE KEY TARGET | agent CA AGENTS")
	}
	log.Fatal(err)
}

func server(certificate, key, target string) error {
	known := func(*http.Request) (string, bool, error) { return name, true, nil }
	tunnel := remotedialer.New(known, remotedialer.DefaultErrorWriter)
	agents, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	entry, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- http.ServeTLS(agents, tunnel, certificate, key) }()
	go func() { ended <- forward(entry, tunnel.Dialer(name), target) }()
	fmt.Printf("entry %s\nagents %s\n", entry.Addr(), agents.Addr())
	return <-ended
}

// forward has a stream of the tunnel for every connection.
func forward(entry net.Listener, dial remotedialer.Dialer, target string) error {
	for {
		connection, err := entry.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			stream, err := dial(context.Background(), "tcp", target)
			if err != nil {
				return
			}
			defer stream.Close()
			ended := make(chan struct{}, 2)
			go pass(stream, connection, ended)
			go pass(connection, stream, ended)
			<-ended
			<-ended
		}()
	}
}

// pass copies one way, and hands on the end of it as far as the other side has a way to be told.
func pass(to, from net.Conn, ended chan<- struct{}) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	} else {
		_ = to.Close()
	}
	ended <- struct{}{}
}

func agent(ca, agents string) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("no certificate in " + ca)
	}
	dialer := &websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}
	all := func(string, string) bool { return true }
	return remotedialer.ClientConnect(context.Background(), "wss://"+agents+"/connect", nil, dialer, all, nil)
}
