package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/vectors/remote"
	"github.com/akidb/akigw/vectors/segment"
)

// Takeover is what an operator's decision to take the prefix over means.
type Takeover struct {
	// From is the gateway that had the prefix, "" if that is not known; Since is when it took it.
	From  string    `json:"from,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Restart says that this gateway takes the prefix over when it is started the next time. Otherwise
	// it does so within seconds.
	Restart bool `json:"restart"`
	// Records is how many acknowledged calls the journal of this gateway has that are not in the
	// upstream. Of a collection that the other gateway has flushed since, they are dropped where it
	// has used the same sequence numbers.
	Records int `json:"records"`
	// Message tells an operator what follows.
	Message string `json:"message"`
}

// ErrOurs means that a takeover is not needed.
const ErrOurs = akigw.Error("this gateway has the prefix of the vector collections: there is nothing to take over")

// ErrUntakeable means that a takeover does not help.
const ErrUntakeable = akigw.Error("a takeover does not help: vector collections are read-only because they are damaged, not because another gateway has them")

// Takeover decides that this gateway takes the prefix, although another one has it. The decision is on
// disk when Takeover returns, and is about the gateway that has the prefix now: if yet another one takes
// it first, it does not count. It is carried out before the collections are loaded, so that they are
// loaded as the other gateway has left them: in a moment if they were never loaded here, and with the next
// start otherwise.
func (s *Store) Takeover(ctx context.Context) (Takeover, error) {
	loaded, err := s.session.takeable()
	if err != nil {
		return Takeover{}, err
	}
	r, err := s.session.probe(ctx)
	if err != nil {
		return Takeover{}, err
	}
	owner, err := r.Owner(ctx)
	d := decision{Writer: owner.Writer, Tenure: owner.Tenure, Damaged: errors.Is(err, segment.ErrCorrupt)}
	if err != nil && !d.Damaged && !errors.Is(err, remote.ErrAbsent) {
		return Takeover{}, err
	}
	if err := s.session.write(d); err != nil {
		return Takeover{}, err
	}
	t := Takeover{From: owner.Writer, Since: owner.Since, Restart: loaded}
	s.journal.Records.All(func(journal.Record) bool { t.Records++; return true })
	t.Message = t.explain(s.session.self)
	s.log.Warn("an operator takes the prefix of the vector collections over", "from", t.From, "since", t.Since, "after_restart", t.Restart, "records", t.Records)
	return t, nil
}

// explain says what follows from the decision of the gateway self.
func (t *Takeover) explain(self string) string {
	text := "This gateway takes the prefix over within seconds; akigw vectors ls shows when it has."
	if t.Restart {
		text = "Restart this gateway now: it takes the prefix over when it starts, and loads the collections as the other gateway has left them."
	}
	if t.From != self {
		text += " From then on the other gateway acknowledges nothing. What it has acknowledged and not flushed is not here: it stays in that gateway's data directory, and is lost to this one unless that gateway takes the prefix back. Stop the other gateway, or give it another prefix."
	}
	if t.Records > 0 {
		text += fmt.Sprintf(" The journal of this gateway has %d acknowledged calls that are not in the upstream. They are applied to collections that the other gateway has not flushed since; of the others, those are dropped that are older than what it has flushed.", t.Records)
	}
	return text
}

// decision is an operator's decision to take the prefix from a gateway, in a file of the data directory.
type decision struct {
	Writer  string // whom it is taken from, "" if that is not known
	Tenure  uint64 // when that gateway took it
	Damaged bool   // the owner document is damaged
}

// covers reports whether the decision is about the owner that an attempt to acquire the prefix has found.
func (d *decision) covers(err error) bool {
	var owned *remote.OwnedError
	if errors.As(err, &owned) {
		return owned.Owner.Tenure == d.Tenure && (d.Writer == "" || owned.Owner.Writer == d.Writer)
	}
	return d.Damaged && errors.Is(err, segment.ErrCorrupt)
}

// decisions is where a decision is kept until it is carried out.
type decisions struct {
	files vfs.FS
	path  string
}

func newDecisions(files vfs.FS, dir string) decisions {
	return decisions{files, filepath.Join(dir, "takeover.json")}
}

func (d decisions) write(made decision) error {
	raw, err := json.Marshal(made)
	if err == nil {
		err = vfs.Replace(d.files, d.path, raw)
	}
	if err != nil {
		return fmt.Errorf("the takeover of the vector collections could not be noted, and does not happen: %w", err)
	}
	return nil
}

// read returns the decision, nil if there is none.
func (d decisions) read() (*decision, error) {
	raw, err := vfs.ReadFile(d.files, d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var made decision
	if err == nil {
		err = json.Unmarshal(raw, &made)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; repeat akigw vectors takeover", d.path, err)
	}
	return &made, nil
}

// acquire acquires the prefix, by force if an operator has decided so. A decision counts once: it is
// removed when the prefix is ours. If that fails, it covers no later owner.
func (d decisions) acquire(ctx context.Context, r *remote.Remote) (owner segment.Owner, err error) {
	owner, err = r.Acquire(ctx)
	if err != nil {
		made, unread := d.read()
		switch {
		case unread != nil:
			return owner, errors.Join(err, unread)
		case made == nil || !made.covers(err):
			return owner, err
		}
		if owner, err = r.Takeover(ctx); err != nil {
			return owner, err
		}
	}
	if left := vfs.Remove(d.files, d.path); left != nil && !errors.Is(left, fs.ErrNotExist) {
		r.Log.Warn("the note of a takeover of vector collections is left; it has no effect any more", "file", d.path, "error", left)
	}
	return owner, nil
}

// guardEvery is how often the owner is looked up: for about that long, a gateway acknowledges after another
// one has taken its prefix over, unless a commit finds out first.
const guardEvery = 10 * time.Second

// guarding looks up whether the prefix is still ours until ctx ends. Without that, a gateway that has
// nothing to flush would not notice a takeover, and would go on serving what the other one changes.
func (s *Store) guarding(ctx context.Context) {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.guard(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// guard looks up the owner once. While the upstream does not respond, nothing is known.
func (s *Store) guard(ctx context.Context) {
	r, err := s.session.writer()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	if err := s.session.failed(r.CheckOwner(ctx)); err != nil && !InDanger(err) {
		s.log.Debug("the owner of the vector collections could not be looked up", "error", err)
	}
}
