package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/server"
)

// serveCommand is "akigw serve". Its flags are the settings that are often changed for one start.
// They override the configuration by their keys.
type serveCommand struct {
	Config          string     `help:"TOML configuration file." placeholder:"FILE" env:"AKIGW_CONFIG"`
	Listen          string     `help:"Address of the S3 listener (default 127.0.0.1:9000)." placeholder:"ADDR" env:"AKIGW_LISTEN"`
	AdminListen     string     `help:"Address of the admin listener (default 127.0.0.1:9001)." placeholder:"ADDR" env:"AKIGW_ADMIN_LISTEN"`
	Data            string     `help:"Directory for everything the gateway stores (default ./data)." placeholder:"DIR" env:"AKIGW_DATA"`
	Upstream        string     `help:"Endpoint of the S3 service behind the gateway. Without it, the gateway starts an embedded one, for trials only." placeholder:"URL" env:"AKIGW_UPSTREAM"`
	Restore         string     `help:"Start with the catalog of a snapshot, by its ID or latest. Its entries are validated before they are served, and the most used objects are fetched again." placeholder:"ID" env:"AKIGW_RESTORE"`
	Shadow          shadowFlag `help:"Send every request to the upstream, as a plain proxy would, and count what the cache would have saved (akigw shadow report). --shadow=bodies also fills the tiers with what passes. Nothing is written back." placeholder:"MODE"`
	EnableFaults    bool       `help:"Let an operator inject faults into the upstream and the disk (akigw faults), to rehearse outages. Not for production." env:"AKIGW_ENABLE_FAULTS"`
	FaultPlan       string     `help:"File with a fault plan that is in force from the start." placeholder:"FILE" env:"AKIGW_FAULT_PLAN"`
	AllowPlaintext  bool       `help:"Listen beyond loopback without TLS: anyone on the network path can read and change the traffic." env:"AKIGW_ALLOW_PLAINTEXT"`
	AllowTrialKeys  bool       `help:"Listen beyond loopback with the generated trial key pair: anyone who has seen the console output or can read the data directory has full access." env:"AKIGW_ALLOW_TRIAL_KEYS"`
	AllowOpenFaults bool       `help:"Enable faults even if a listener is open beyond loopback." env:"AKIGW_ALLOW_OPEN_FAULTS"`
	AllowOpenAdmin  bool       `help:"Open the admin listener beyond loopback: anyone who can reach it can read metrics and memory profiles." env:"AKIGW_ALLOW_OPEN_ADMIN"`
}

func (s *serveCommand) flags() map[string]string {
	flags := map[string]string{}
	for key, value := range map[string]string{"listen": s.Listen, "admin_listen": s.AdminListen, "data": s.Data, "upstream.url": s.Upstream, "cache.shadow": string(s.Shadow), "fault_plan": s.FaultPlan} {
		if value != "" {
			flags[key] = value
		}
	}
	for key, value := range map[string]bool{"allow_plaintext": s.AllowPlaintext, "allow_trial_keys": s.AllowTrialKeys, "allow_open_admin": s.AllowOpenAdmin, "allow_open_faults": s.AllowOpenFaults, "enable_faults": s.EnableFaults} {
		if value {
			flags[key] = strconv.FormatBool(value)
		}
	}
	return flags
}

// Run runs the gateway until SIGTERM or SIGINT.
func (s *serveCommand) Run() error {
	c, err := server.Load(s.Config, os.Environ(), s.flags())
	if err != nil {
		return err
	}
	c.Restore, c.Version = s.Restore, version
	c.LimitMemory = os.Getenv("GOMEMLIMIT") == ""
	c.Log = os.Stderr
	if terminal(os.Stderr) {
		c.OnDrain = showDrain(os.Stderr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return serve(ctx, c, os.Stdout)
}

// serve runs a gateway until ctx is done. It prints the banner once the gateway accepts requests.
func serve(ctx context.Context, c *server.Config, stdout io.Writer) error {
	s, err := server.New(*c)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
		banner(stdout, c, s)
	case err := <-done:
		return err
	}
	return <-done
}

// showDrain shows at shutdown how much is left to upload, if the output is a terminal.
func showDrain(to io.Writer) func(pending func() server.Pending, done <-chan struct{}) {
	return func(pending func() server.Pending, done <-chan struct{}) {
		for {
			fmt.Fprintf(to, "\r\x1b[K%s", drainLine(pending()))
			select {
			case <-done:
				fmt.Fprintln(to)
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
}

// drainLine says what is left to upload.
func drainLine(p server.Pending) string {
	vectors := ""
	if p.Vectors > 0 {
		vectors = fmt.Sprintf(", %d vectors", p.Vectors)
	}
	return fmt.Sprintf("uploading acknowledged writes: %d left%s (%s)", p.Writes, vectors, size.Human(p.Bytes))
}
