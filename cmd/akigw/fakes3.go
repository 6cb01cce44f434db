package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/double"
	"github.com/akidb/akigw/internal/listen"
)

// fakes3Command is "akigw fakes3".
type fakes3Command struct {
	Listen    string `help:"Address to listen on; loopback only." placeholder:"ADDR" default:"127.0.0.1:9100"`
	Plan      string `help:"Fault plan in TOML or JSON, in force from the start." placeholder:"FILE" type:"existingfile"`
	Mode      string `help:"Fault plan by name: RateLimit, Timeout, PartialUpload, Corruption, or a preset." placeholder:"NAME"`
	Strict    bool   `help:"Refuse requests without a signature, with unknown parameters or headers, or with a body that has no digest."`
	AccessKey string `help:"Access key." env:"AKIGW_FAKES3_ACCESS_KEY" default:"fakes3"`
	SecretKey string `help:"Secret key." env:"AKIGW_FAKES3_SECRET_KEY" default:"fakes3-secret"`
	Region    string `help:"Region that requests are signed for." default:"us-east-1"`
}

// Run serves until SIGTERM or SIGINT.
func (f *fakes3Command) Run() (err error) {
	if !listen.Loopback(f.Listen) {
		return fmt.Errorf("--listen %s: the test service listens on loopback only", f.Listen)
	}
	plan, err := f.plan()
	if err != nil {
		return err
	}
	parent := "/dev/shm" // a file system in memory
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "akigw-fakes3")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := double.Open(double.Config{AccessKey: f.AccessKey, SecretKey: f.SecretKey, Region: f.Region, Strict: f.Strict, Dir: dir, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if plan != nil {
		if err := s.Faults.Set(*plan); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", f.Listen)
	if err != nil {
		return fmt.Errorf("%w; is another process using the port? (--listen)", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	fmt.Printf("S3 service for tests; its data is lost when it ends\n\n  endpoint    http://%s\n  access key  %s\n  secret key  %s\n  history     http://%[1]s/_fakes3/history\n\nready\n", l.Addr(), f.AccessKey, f.SecretKey)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		return server.Close()
	}
	return nil
}

// plan returns the fault plan that is in force from the start, nil for none.
func (f *fakes3Command) plan() (*faults.Plan, error) {
	switch {
	case f.Plan != "" && f.Mode != "":
		return nil, errors.New("give --plan or --mode, not both")
	case f.Plan != "":
		raw, err := os.ReadFile(f.Plan)
		if err != nil {
			return nil, err
		}
		p, err := faults.Parse(raw)
		return &p, err
	case f.Mode != "":
		named := faults.Presets()
		maps.Copy(named, faults.Modes())
		p, ok := named[f.Mode]
		if !ok {
			return nil, fmt.Errorf("--mode %s: it must be one of %s", f.Mode, strings.Join(slices.Sorted(maps.Keys(named)), ", "))
		}
		return &p, nil
	}
	return nil, nil
}
