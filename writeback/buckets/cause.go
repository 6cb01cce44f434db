package buckets

import "github.com/akidb/akigw/writeback/facts"

// Cause is why a write that a rule wants written back is written through: a label of a metric,
// and the same word in the log, the status and the console.
type Cause string

// The causes besides the reasons of package facts.
const (
	NoCause    Cause = ""           // it can be written back
	Unanswered Cause = "unanswered" // the upstream did not say what the bucket is like
	Changing   Cause = "changing"   // the bucket is being changed through this gateway
	Full       Cause = "full"       // a limit of the journal is reached
	Journal    Cause = "journal"    // the journal has failed, or is damaged
	Request    Cause = "request"    // it asks for more than to be stored or deleted
	Kind       Cause = "kind"       // an unusual write of a kind that the upstream has not accepted yet, or refuses
)

// because is the cause that a fact about the bucket gives.
func because(r facts.Reason) Cause { return Cause(r.String()) }

// Causes are all causes but NoCause.
func Causes() (all []Cause) {
	for r := facts.Absent; r <= facts.Unreadable; r++ {
		all = append(all, because(r))
	}
	return append(all, Unanswered, Changing, Full, Journal, Request, Kind)
}

// meanings explain the causes to an operator.
var meanings = map[Cause]string{
	because(facts.Absent):     "the bucket is not there",
	because(facts.Forbidden):  "the upstream's credentials may not ask about the bucket (GetBucketVersioning): they need s3:GetBucketVersioning",
	because(facts.Versioned):  "the bucket keeps versions, whose ids only the upstream can give",
	because(facts.Encrypted):  "the bucket is encrypted with KMS keys, so ETags cannot be promised",
	because(facts.OtherETags): "the upstream gave an object of the bucket another ETag than its MD5",
	because(facts.Unreadable): "the upstream's answer to GetBucketVersioning was not understood",
	Unanswered:                "the upstream did not say whether the bucket is versioned",
	Changing:                  "the bucket is being changed",
	Full:                      "a limit of the journal is reached (write_back)",
	Journal:                   "the journal takes no writes",
	Request:                   "the write asks for more than to be stored",
	Kind:                      "the upstream has not accepted an unusual write of this kind yet, or has refused one",
}

// Meaning explains a cause to an operator.
func (c Cause) Meaning() string { return meanings[c] }

// Remedy is what an operator can do about a bucket whose pending writes are held back, "" for
// nothing.
func Remedy(bucket string, why facts.Reason) string {
	resume := "akigw journal resume " + bucket
	switch why {
	case facts.Absent:
		return "make the bucket again; or " + resume + ": then its pending writes become dead letters, which can be exported"
	case facts.Versioned:
		return resume + " uploads them: each becomes a version"
	case facts.Encrypted:
		return "take the default encryption with KMS keys off the bucket; or " + resume + ": then the promised ETags are translated"
	}
	return ""
}

// Held explains why the pending writes of a bucket are held back, and what to do about it.
func Held(bucket string, why facts.Reason) string {
	return because(why).Meaning() + "; " + Remedy(bucket, why)
}
