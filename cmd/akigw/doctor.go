package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"

	"github.com/akidb/akigw/doctor"
	appconfig "github.com/akidb/akigw/internal/config"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/server"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback/buckets"
	"github.com/akidb/akigw/writeback/facts"
)

// doctorCommand is "akigw doctor". Its flags are those of serve.
type doctorCommand struct {
	Config      string `help:"TOML configuration file." placeholder:"FILE" env:"AKIGW_CONFIG"`
	Listen      string `help:"Address of the S3 listener." placeholder:"ADDR" env:"AKIGW_LISTEN"`
	AdminListen string `help:"Address of the admin listener." placeholder:"ADDR" env:"AKIGW_ADMIN_LISTEN"`
	Data        string `help:"Directory for everything that the gateway keeps." placeholder:"DIR" env:"AKIGW_DATA"`
	Upstream    string `help:"Endpoint of the S3 service behind the gateway." placeholder:"URL" env:"AKIGW_UPSTREAM"`
	Bucket      string `help:"Bucket in which an object is written and deleted, to see what the upstream's credentials may do." placeholder:"NAME"`
	JSON        bool   `name:"json" help:"Print JSON."`
}

// Run prints what was found. It fails if there is a problem.
func (d *doctorCommand) Run() error {
	flags := map[string]string{"listen": d.Listen, "admin_listen": d.AdminListen, "data": d.Data, "upstream.url": d.Upstream}
	maps.DeleteFunc(flags, func(_, value string) bool { return value == "" })
	ctx, stop := until()
	defer stop()
	var r doctor.Report
	done := busy("looking at the machine and the upstream")
	d.examine(ctx, &r, flags)
	done()
	var err error
	if d.JSON {
		err = printJSON(&r)
	} else {
		err = r.WriteText(os.Stdout)
	}
	if err != nil {
		return err
	}
	if n := r.Count(doctor.Problem); n > 0 {
		return fmt.Errorf("%d problems were found", n)
	}
	return nil
}

// examine looks at everything.
func (d *doctorCommand) examine(ctx context.Context, r *doctor.Report, flags map[string]string) {
	c, err := server.Load(d.Config, os.Environ(), flags)
	var book *rules.Book
	if err == nil {
		book, err = c.OpenRules(slog.New(slog.DiscardHandler), nil)
	}
	var mistakes appconfig.Mistakes
	switch {
	case errors.As(err, &mistakes):
		for _, m := range mistakes {
			r.Add(doctor.Problem, "config", "akigw config explain KEY says what a setting means; the rest is checked when this is mended", "%s", m)
		}
		return
	case err != nil:
		r.Add(doctor.Problem, "config", "akigw config print-default shows what a file looks like; the rest is checked when this is mended", "%v", err)
		return
	}
	r.Add(doctor.OK, "config", "", "%d settings are given, and sound", len(c.Origins))
	if !c.HasAdminKey() {
		r.Add(doctor.Note, "admin key", makeAdminKey, "there is none: what changes something on the admin listener needs one")
	}
	(&doctor.Machine{
		Data:        c.Process.Data,
		DiskBytes:   int64(c.Cache.WarmBytes + c.Back.MaxPendingBytes + c.Snapshot.MaxBytes),
		MemoryBytes: c.MostMemory(),
		Files:       c.Gateway.MaxConnections + c.Storage.Pool.PoolSize,
		Listen:      c.Gateway.Listen, AdminListen: c.Admin.Listen,
		TLSCert: c.Gateway.TLSCert, TLSKey: c.Gateway.TLSKey,
		Journal: c.Back.Place(c.Process.Data), SecondJournal: c.Back.SecondDir, MinFree: int64(c.Back.MinFreeBytes), Acknowledges: book.BacksAny(),
	}).Check(r)
	writeBack(r, c, book)
	if c.Upstream.URL == "" {
		r.Add(doctor.Note, "upstream", "--upstream URL puts the gateway before your S3 service", "there is none: the embedded one is for trials")
	} else {
		d.upstream(ctx, r, c, "upstream", c.Upstream)
	}
	for i := range c.Further {
		d.upstream(ctx, r, c, fmt.Sprintf("upstreams[%d]", i+1), c.Further[i].Config)
	}
}

// maxDoctorNotes bounds what is said of buckets.
const maxDoctorNotes = 20

// writeBack says of which buckets the gateway found out that a rule write = "back" cannot be
// honoured. It reads what a gateway has kept, and asks nobody.
func writeBack(r *doctor.Report, c *server.Config, book *rules.Book) {
	const check = "write-back"
	if !book.BacksAny() {
		return
	}
	kept, err := facts.Read(c.FactsFile())
	if err != nil {
		r.Add(doctor.Note, check, "nothing: the next start sets it aside and asks the upstream anew", "%s: %v", c.FactsFile(), err)
		return
	}
	said := 0
	for i := range kept {
		n := buckets.NoteOf(&kept[i])
		if n == nil || !book.Backs(n.Bucket) {
			continue
		}
		if said++; said > maxDoctorNotes {
			continue
		}
		mend := "if that is as it should be, say write = \"through\" in its rule"
		if remedy := buckets.Remedy(n.Bucket, kept[i].Why()); remedy != "" {
			mend = "akigw status says whether acknowledged writes of it are held back. If so: " + remedy
		}
		if n.Reason != "" {
			r.Add(doctor.Warning, check, mend, "a rule says write = \"back\", and writes to bucket %q go through: %s", n.Bucket, n.Meaning)
		}
		if len(n.RefusedKinds) > 0 {
			r.Add(doctor.Note, check, "akigw journal resume "+n.Bucket+" --forget has them tried again", "writes to bucket %q that the upstream refused before go through: %s", n.Bucket, strings.Join(n.RefusedKinds, ", "))
		}
	}
	switch {
	case said > maxDoctorNotes:
		r.Add(doctor.Warning, check, "akigw status", "so do writes to %d more buckets", said-maxDoctorNotes)
	case said == 0 && len(kept) > 0:
		r.Add(doctor.OK, check, "", "no bucket is known to which writes cannot be acknowledged by the journal")
	}
}

// upstream looks at one upstream.
func (d *doctorCommand) upstream(ctx context.Context, r *doctor.Report, c *server.Config, name string, one cold.Config) {
	one.Retries = 0 // the first answer says most
	client, err := cold.New(one, c.Storage.Pool, nil)
	if err != nil {
		r.Add(doctor.Problem, "upstream", "", "%v", err)
		return
	}
	defer client.Close() // closes idle connections
	(&doctor.Upstream{Client: client, Config: one, Name: name, Bucket: d.Bucket, MD5ETags: c.Cache.MD5ETags, Trailing: one.TrailingChecksums}).Check(ctx, r)
}
