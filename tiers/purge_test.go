package tiers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// A purge removes exactly the named data from memory and disk, so only that is fetched again.
func TestPurge(t *testing.T) {
	for _, hot := range []bool{true, false} {
		for _, c := range []struct {
			what   akigw.Pattern
			purged []string
		}{
			{akigw.Pattern{Bucket: "bucket", Prefix: "a/"}, []string{"a/1", "a/2", "a/22"}},
			{akigw.Pattern{Bucket: "bucket", Prefix: "a/2"}, []string{"a/2", "a/22"}},
			{akigw.Pattern{Bucket: "bucket", Prefix: "a/2", Exactly: true}, []string{"a/2"}},
			{akigw.Pattern{Bucket: "bucket", Prefix: ""}, []string{"a/1", "a/2", "a/22", "b"}},
			{akigw.Pattern{Bucket: "bucket", Prefix: "", Exactly: true}, nil},
			{akigw.Pattern{Bucket: "buck", Prefix: ""}, nil},
		} {
			up := s3mem.New()
			config := testConfig(rules.Exclusive)
			if !hot {
				config.HotBytes = 0
			}
			s := newStore(t, config, up)
			names := map[string]bool{"a/1": false, "a/2": false, "a/22": false, "b": false}
			for name := range names {
				up.Put(key(name), testkit.Bytes(1, 3*block))
				for range 2 {
					if _, _, err := readAll(s, key(name), ""); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, name := range c.purged {
				names[name] = true
			}
			n, err := s.Purge(t.Context(), c.what)
			if n != len(c.purged) || err != nil {
				t.Errorf("%+v: %d, %v", c.what, n, err)
			}
			for name, purged := range names {
				gets := up.Count("GET")
				if _, _, err := readAll(s, key(name), ""); err != nil || (up.Count("GET") > gets) != purged {
					t.Errorf("hot %t, %+v: %s was fetched again: %t, %v", hot, c.what, name, up.Count("GET") > gets, err)
				}
			}
		}
	}
}

// A fill that is in progress during a purge does not enter the cache.
func TestPurgeDuringAFill(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	up.Put(key("k"), testkit.Bytes(1, 100))
	asked, goOn := make(chan struct{}), make(chan struct{})
	up.After = func(r *cold.Request, _ *http.Response) {
		if r.Method == http.MethodGet && up.Count("GET") == 1 {
			close(asked)
			<-goOn
		}
	}
	done := make(chan error)
	go func() {
		_, _, err := readAll(s, key("k"), "")
		done <- err
	}()
	<-asked
	if _, err := s.Purge(t.Context(), akigw.Pattern{Bucket: "bucket"}); err != nil {
		t.Error(err)
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
	gets := up.Count("GET")
	if _, _, err := readAll(s, key("k"), ""); err != nil || up.Count("GET") == gets {
		t.Errorf("data fetched before the purge is served: %v", err)
	}
}

// An interrupted purge returns an error.
func TestPurgeIsCancelled(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	for i := range 5 {
		up.Put(key(fmt.Sprint(i)), []byte("body"))
		if _, _, err := readAll(s, key(fmt.Sprint(i)), ""); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := s.Purge(ctx, akigw.Pattern{Bucket: "bucket"}); !errors.Is(err, context.Canceled) || n == 5 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := s.Head(t.Context(), akigw.Key{Bucket: "bucket", Name: "1"}, akigw.RangeSpec{}, akigw.Conditions{}); err != nil {
		t.Error(err)
	}
}
