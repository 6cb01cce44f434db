package main

import (
	"context"
	"fmt"

	"github.com/akidb/akigw/admin/client"
)

// journalCommand is "akigw journal".
type journalCommand struct {
	Accept journalAccept `cmd:"" help:"Go on with a journal that was found damaged. Look at the files in its quarantine first: they are kept."`
	Resume journalResume `cmd:"" help:"Upload the pending writes of a bucket that is versioned, encrypted or gone by now. akigw status says which are held back, and why."`
	Unpack journalUnpack `cmd:"" help:"Make objects of their own of all that is in packs in a bucket: to stop packing (take pack_bytes out of its rules first), or before the gateway is taken away."`
}

type journalAccept struct{ remote }

// Run accepts the damage.
func (j *journalAccept) Run() error {
	if err := do(&j.remote, (*client.Client).AcceptDamage); err != nil {
		return err
	}
	fmt.Println("accepted: the journal takes writes again, and what is pending goes upstream")
	return nil
}

type journalResume struct {
	Bucket string `arg:"" help:"Name of the bucket."`
	Forget bool   `help:"Forget all else that is known of the bucket, too: that it gave another ETag than was promised, and which unusual writes it refused."`
	remote
}

// Run resumes the uploads of a bucket.
func (j *journalResume) Run() error {
	err := do(&j.remote, func(c *client.Client, ctx context.Context) error { return c.ResumeUploads(ctx, j.Bucket, j.Forget) })
	if err != nil {
		return err
	}
	fmt.Printf("pending writes of %s are uploaded\n", j.Bucket)
	return nil
}

type journalUnpack struct {
	Bucket string `arg:"" help:"Name of the bucket."`
	remote
}

// Run unpacks a bucket.
func (j *journalUnpack) Run() error {
	unpacked, err := ask(&j.remote, func(c *client.Client, ctx context.Context) (int, error) { return c.Unpack(ctx, j.Bucket) })
	if err != nil {
		return err
	}
	fmt.Printf("%d objects of %s are out of their packs\n", unpacked, j.Bucket)
	return nil
}
