package snapshot_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/snapshot"
)

// catalog is a catalog of two objects.
type catalog struct{}

func (catalog) Ordered() bool { return true }

func (catalog) Entries(_ context.Context, yield func(*akigw.CatalogEntry) bool) error {
	for _, name := range []string{"a", "b"} {
		e := akigw.CatalogEntry{Tier: akigw.Warm}
		e.Key, e.Size, e.ETag = akigw.Key{Bucket: "bucket", Name: name}, 5, `"etag"`
		if !yield(&e) {
			return nil
		}
	}
	return nil
}

// Make a snapshot of a catalog, find it again, and read it.
func Example() {
	dir, err := os.MkdirTemp("", "snapshots")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store := snapshot.Open(snapshot.Options{
		Config:  snapshot.Config{MaxBytes: 1 << 30},
		Dir:     filepath.Join(dir, "snapshots"),
		Gateway: "example",
		Catalog: catalog{},
		Log:     slog.New(slog.DiscardHandler),
	})
	ctx := context.Background()
	if _, err := store.Create(ctx); err != nil {
		fmt.Println(err)
		return
	}
	latest, err := store.Find(snapshot.Latest)
	if err == nil {
		err = store.Read(ctx, latest, func(e akigw.CatalogEntry) bool {
			fmt.Println(e.Key, e.Size, e.Tier)
			return true
		})
	}
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// bucket/"a" 5 warm
	// bucket/"b" 5 warm
}
