package segment

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Commit says who wrote a document: after a response that got lost, the writer recognises its own
// document by all three.
type Commit struct {
	// Writer is the ID of the gateway's data directory.
	Writer string `json:"writer"`
	// Epoch rises with each start of a writer and each takeover of the prefix, from 1.
	Epoch uint64 `json:"epoch"`
	// Nonce is another one for each attempt to write.
	Nonce string `json:"nonce"`
}

// maxID is the size of the longest writer ID and nonce, in bytes.
const maxID = 256

func (c Commit) check() error {
	for _, id := range []string{c.Writer, c.Nonce} {
		if id == "" || len(id) > maxID || !utf8.ValidString(id) {
			return fmt.Errorf("%q is no writer or nonce", id)
		}
	}
	if c.Epoch == 0 {
		return errors.New("the epoch is 0")
	}
	return nil
}

// Owner is the document that says which gateway may write below a prefix.
type Owner struct {
	Commit
	// Tenure is the epoch at which the writer took the prefix from another one, or first of all. What
	// the writer itself wrote in this or a later epoch, nobody else has replaced.
	Tenure uint64 `json:"tenure"`
	// Since is when the writer took the prefix, for the operator. It decides nothing.
	Since time.Time `json:"since"`
}

const ownerKind = "owner"

func (o *Owner) check() error {
	if err := o.Commit.check(); err != nil {
		return err
	}
	if o.Tenure == 0 || o.Tenure > o.Epoch {
		return fmt.Errorf("the tenure began in epoch %d, and it is %d", o.Tenure, o.Epoch)
	}
	return nil
}

type ownerDocument struct {
	kindVersion
	Owner
}

// Encode returns the document. The error is ErrRow.
func (o Owner) Encode() ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, named(ownerKind, fmt.Errorf("%w: %w", ErrRow, err))
	}
	o.Since = instant(o.Since)
	document, err := seal(ownerDocument{kindVersion{ownerKind, Version}, o})
	return document, named(ownerKind, err)
}

// ParseOwner parses what Encode returned. The error is ErrCorrupt or ErrFormat.
func ParseOwner(document []byte) (Owner, error) {
	var d ownerDocument
	err := unseal(document, ownerKind, &d)
	if err == nil {
		if wrong := d.check(); wrong != nil {
			err = fmt.Errorf("%w: %w", ErrFormat, wrong)
		}
	}
	if err != nil {
		return Owner{}, named(ownerKind, err)
	}
	d.Since = instant(d.Since)
	return d.Owner, nil
}

// instant returns a time in the form that survives encoding.
func instant(t time.Time) time.Time { return t.UTC().Round(0) }
