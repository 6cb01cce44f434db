package cold

import (
	"strings"
	"testing"
)

// TestAccount: facts about a bucket belong to the credentials that were used to learn them. The
// account differs for another access key. It stays the same for another secret, after a restart,
// and when temporary keys are replaced. It reveals nothing of a key.
func TestAccount(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Setenv(name, "")
	}
	static := Config{Credentials: staticKeys, AccessKey: "AKIAEXAMPLE", SecretKey: "secret"}
	account := static.account()
	if strings.Contains(account, "AKIA") || len(account) != 16 {
		t.Errorf("%q", account)
	}
	for name, c := range map[string]struct {
		config Config
		same   bool
	}{
		"again":          {static, true},
		"another secret": {Config{Credentials: staticKeys, AccessKey: "AKIAEXAMPLE", SecretKey: "rotated"}, true},
		"another key":    {Config{Credentials: staticKeys, AccessKey: "AKIAOTHER", SecretKey: "secret"}, false},
		"another source": {Config{Credentials: instanceKeys, AccessKey: "AKIAEXAMPLE"}, false},
	} {
		if got := c.config.account() == account; got != c.same {
			t.Errorf("%s: same account: %t", name, got)
		}
	}
	embedded := func(key string) string {
		return (&Config{Credentials: staticKeys, Identity: "embedded", AccessKey: key}).account()
	}
	if embedded("first") != embedded("second") {
		t.Error("the embedded upstream has another account after a restart")
	}
	role := Config{Credentials: webIdentityKeys, RoleARN: "arn:aws:iam::1:role/a"}
	before := role.account()
	t.Setenv("AWS_ACCESS_KEY_ID", "ASIATEMPORARY")
	t.Setenv("AWS_SESSION_TOKEN", "token")
	if role.account() != before {
		t.Error("temporary keys change the account")
	}
	role.RoleARN = "arn:aws:iam::1:role/b"
	if role.account() == before {
		t.Error("another role has the same account")
	}
}
