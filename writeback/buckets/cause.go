package buckets

import "github.com/akidb/akigw/writeback/facts"

// Cause is the reason why a write that a rule wants written back goes through: a label of a metric,
// and the same word in the log, the status and the console.
type Cause string

// The causes, apart from the reasons of package facts.
const (
	NoCause    Cause = ""           // it can be written back
	Unanswered Cause = "unanswered" // the upstream did not describe the bucket
	Changing   Cause = "changing"   // the bucket is being changed through this gateway
	Full       Cause = "full"       // a limit of the journal is reached
	Journal    Cause = "journal"    // the journal has failed, or is damaged
	Request    Cause = "request"    // the request asks for more than a stored or deleted object
	Kind       Cause = "kind"       // an unusual write of a kind that the upstream has not accepted yet, or refuses
)

// because returns the cause that a fact about the bucket gives.
func because(r facts.Reason) Cause { return Cause(r.String()) }

// Causes returns all causes except NoCause.
func Causes() (all []Cause) {
	for r := facts.Absent; r <= facts.Unreadable; r++ {
		all = append(all, because(r))
	}
	return append(all, Unanswered, Changing, Full, Journal, Request, Kind)
}

// meanings explains the causes to an operator.
var meanings = map[Cause]string{
	because(facts.Absent):     "the bucket does not exist",
	because(facts.Forbidden):  "the upstream's credentials lack the permission s3:GetBucketVersioning for the bucket",
	because(facts.Versioned):  "the bucket keeps versions, whose IDs only the upstream can assign",
	because(facts.Encrypted):  "the bucket is encrypted with KMS keys, so ETags cannot be promised",
	because(facts.OtherETags): "the upstream gave an object of the bucket an ETag other than its MD5",
	because(facts.Unreadable): "the upstream's response to GetBucketVersioning was not understood",
	Unanswered:                "the upstream did not say whether the bucket is versioned",
	Changing:                  "the bucket is being changed",
	Full:                      "a limit of the journal is reached (write_back)",
	Journal:                   "the journal takes no writes",
	Request:                   "the write asks for more than storing an object",
	Kind:                      "the upstream has not accepted an unusual write of this kind yet, or has refused one",
}

// Meaning explains the cause to an operator.
func (c Cause) Meaning() string { return meanings[c] }

// Remedy says what an operator can do about a bucket whose pending writes are held back, "" for
// nothing.
func Remedy(bucket string, why facts.Reason) string {
	resume := "akigw journal resume " + bucket
	switch why {
	case facts.Absent:
		return "create the bucket again; or " + resume + ": then its pending writes become dead letters, which can be exported"
	case facts.Versioned:
		return resume + " uploads them: each becomes a version"
	case facts.Encrypted:
		return "remove the default encryption with KMS keys from the bucket; or " + resume + ": then the promised ETags are translated"
	}
	return ""
}

// Held explains why the pending writes of a bucket are held back, and what to do about it.
func Held(bucket string, why facts.Reason) string {
	return because(why).Meaning() + "; " + Remedy(bucket, why)
}
