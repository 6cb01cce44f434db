package server

import (
	"errors"
	"fmt"
	"time"

	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/gateway"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/warm"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/api"
	"github.com/akidb/akigw/vectors/store"
	"github.com/akidb/akigw/writeback/overlay"
)

// vectorsFormat is the layout of the values in the warm tier of vector collections.
const vectorsFormat = "vectors 1"

// vectorStorage is the storage of vector collections, nil if none are configured.
type vectorStorage struct {
	store *store.Store
	warm  *warm.Tier
}

// collections returns the store, nil if there is none.
func (v *vectorStorage) collections() *store.Store {
	if v == nil {
		return nil
	}
	return v.store
}

// openVectors opens the storage of vector collections: their records are in the journal of pending
// writes, and their warm tier is a directory of its own.
func openVectors(c *Config, pending *overlay.Overlay, s *storage, i *instruments, opened *closers) (*vectorStorage, error) {
	if !c.Vectors.Enabled() {
		return nil, nil
	}
	j := pending.Journal()
	if j == nil {
		return nil, errors.New("vectors: vector collections need the journal, which could not be opened")
	}
	v := &vectorStorage{}
	secret, err := c.Cache.Secret()
	if err != nil {
		return nil, err
	}
	config := warm.Config{Dir: c.path("vectors/warm"), Quota: int64(c.Vectors.WarmBytes), Format: vectorsFormat, Secret: secret, Log: i.log}
	var files vfs.FS = vfs.Disk{}
	if i.faults != nil {
		config.Fault = i.faults.Disk(faults.Warm)
		files = vfs.Watched(files, i.faults.Disk(faults.Journal))
	}
	if v.warm, err = warm.Open(config); err != nil {
		return nil, fmt.Errorf("vectors: %w", err)
	}
	opened.add(v.warm.Close)
	policy := c.Tiering.Policy
	v.store, err = store.Open(store.Options{
		Config: c.Vectors, Dir: c.path("vectors"), FS: files, Writer: gatewayID(c.path("gateway-id"), i.log), Journal: j, Upstream: s.upstream, Sender: s.writes, Warm: v.warm, Log: i.log, Metrics: i.metrics,
		Tiering: store.Tiering{
			HotIdle: units(policy.HotTTLHours, time.Hour), WarmIdle: units(policy.WarmTTLDays, rules.Day), Searches: int(policy.PromotionThreshold),
			Window: units(policy.AccessWindowHours, time.Hour), Every: time.Duration(policy.WorkerIntervalSecs) * time.Second,
		},
	})
	return v, err
}

// api returns what answers requests of S3 Vectors, nil if there are no vector collections.
func (v *vectorStorage) api(c *Config, users api.Users) gateway.Vectors {
	if v == nil {
		return nil
	}
	return api.New(api.Options{Engine: v.store, Users: users, Names: vectors.Names{Region: c.Gateway.Region, Account: c.Vectors.Account}})
}

// reserved returns the keys of the objects of vector collections, which S3 clients have no access to.
func (v *vectorStorage) reserved(c *Config) gateway.Reserved {
	if v == nil {
		return gateway.Reserved{}
	}
	return gateway.Reserved{Bucket: c.Vectors.Bucket, Prefix: c.Vectors.Prefix}
}

// units returns a number of units; Check has validated it.
func units(n float64, unit time.Duration) time.Duration {
	d, _ := rules.Units(n, unit)
	return d
}
