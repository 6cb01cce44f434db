package cold

import (
	"strings"
	"testing"
)

// TestAccount: what is known of a bucket belongs to the credentials that it was asked with. The
// number is another one for another key, the same for another secret, after a restart, and when
// temporary keys are replaced; and nothing of a key can be read from it.
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
			t.Errorf("%s: the same %t", name, got)
		}
	}
	embedded := func(key string) string {
		return (&Config{Credentials: staticKeys, Identity: "embedded", AccessKey: key}).account()
	}
	if embedded("first") != embedded("second") {
		t.Error("the embedded upstream is another one after a restart")
	}
	role := Config{Credentials: webIdentityKeys, RoleARN: "arn:aws:iam::1:role/a"}
	before := role.account()
	t.Setenv("AWS_ACCESS_KEY_ID", "ASIATEMPORARY")
	t.Setenv("AWS_SESSION_TOKEN", "token")
	if role.account() != before {
		t.Error("temporary keys count")
	}
	role.RoleARN = "arn:aws:iam::1:role/b"
	if role.account() == before {
		t.Error("another role is the same account")
	}
}
