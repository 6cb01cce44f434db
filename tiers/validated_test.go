package tiers_test

import (
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/tiers"
)

// answers collects what validations found.
type answers map[bool]int

func (a answers) Validated(bucket string, unchanged bool, took time.Duration) {
	if bucket == tiertest.Key("k").Bucket && took >= 0 {
		a[unchanged]++
	}
}

// TestValidationsAreReported: the upstream's answer to each validation is passed on: unchanged,
// replaced, gone. Without an answer there is nothing to pass on.
func TestValidationsAreReported(t *testing.T) {
	up, found, key := s3mem.New(), answers{}, tiertest.Key("k")
	up.Put(key, testkit.Bytes(1, 100))
	s := tiertest.Open(t, tiers.Options{Config: tiertest.Config("strict"), Upstream: up, Validations: found})
	defer tiertest.Close(t, s)
	get := func() { _, _, _ = tiertest.Read(s, key, "") } // also of an object that is gone
	get()
	if len(found) != 0 {
		t.Errorf("after the first read: %v", found)
	}
	get()
	get()
	if found[true] != 2 || found[false] != 0 {
		t.Errorf("unchanged: %v", found)
	}
	up.Put(key, testkit.Bytes(2, 100))
	get()
	if found[true] != 2 || found[false] != 1 {
		t.Errorf("replaced: %v", found)
	}
	up.Delete(key)
	get()
	if found[true] != 2 || found[false] != 2 {
		t.Errorf("deleted: %v", found)
	}
}
