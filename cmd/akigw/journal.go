package main

import (
	"context"
	"fmt"

	"github.com/akidb/akigw/admin/client"
)

// journalCommand is "akigw journal".
type journalCommand struct {
	Accept journalAccept `cmd:"" help:"Accept the damage of a journal, so that it takes writes again. Look at the files in its quarantine first; they are kept."`
	Resume journalResume `cmd:"" help:"Upload the pending writes of a bucket that has become versioned, encrypted or missing since they were acknowledged. akigw status shows which buckets are held back, and why."`
	Unpack journalUnpack `cmd:"" help:"Copy every packed object of a bucket into an upstream object of its own: to stop packing (remove pack_bytes from its rules first), or before removing the gateway."`
}

type journalAccept struct{ remote }

// Run accepts the journal's damage.
func (j *journalAccept) Run() error {
	if err := do(&j.remote, (*client.Client).AcceptDamage); err != nil {
		return err
	}
	fmt.Println("accepted: the journal takes writes again, and pending writes are uploaded")
	return nil
}

type journalResume struct {
	Bucket string `arg:"" help:"Name of the bucket."`
	Forget bool   `help:"Also forget what the gateway has learned about the bucket: that its ETags differ from the acknowledged ones, and which unusual writes it refused."`
	remote
}

// Run resumes the uploads of a bucket.
func (j *journalResume) Run() error {
	err := do(&j.remote, func(c *client.Client, ctx context.Context) error { return c.ResumeUploads(ctx, j.Bucket, j.Forget) })
	if err != nil {
		return err
	}
	fmt.Printf("uploading the pending writes of %s\n", j.Bucket)
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
	fmt.Printf("unpacked %d objects of %s\n", unpacked, j.Bucket)
	return nil
}
