package mesh

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// What a field that nobody set means. The comments of api/v1 promise these
// values to users.
const (
	DefaultRequestTimeout  = 0 // none
	DefaultConnectTimeout  = 3 * time.Second
	DefaultResponseTimeout = 30 * time.Second
	DefaultIdleTimeout     = 5 * time.Minute

	DefaultRetryAttempts  = 1
	DefaultRetryPerTry    = 0 // no limit of its own
	DefaultRetryRatio     = 0.2
	DefaultRetryPerSecond = 10.0

	DefaultBalance = BalanceEWMA

	DefaultBreakerConsecutive = 5
	DefaultBreakerSuccessRate = 0.8
	DefaultBreakerWindow      = 10 * time.Second
	DefaultBreakerMaxEjected  = 0.5

	DefaultWeight = 1

	DefaultCertificateTTL = 24 * time.Hour

	DefaultWholeCatalogue = 1000

	DefaultCheckInterval = 5 * time.Second
	DefaultCheckTimeout  = 2 * time.Second
)

// Balance policies, as they are written.
const (
	BalanceEWMA         = "ewma"
	BalanceLeastRequest = "least_request"
	BalanceRoundRobin   = "round_robin"
	BalanceRandom       = "random"
)

// DefaultRetryOn is what is tried again unless something else is asked for:
// failures that left no trace at the called side.
func DefaultRetryOn() []string { return []string{"connect", "refused", "reset"} }

// Timeouts in effect; zero means none.
type Timeouts struct {
	Request  time.Duration
	Connect  time.Duration
	Response time.Duration
	Idle     time.Duration
}

// EffectiveTimeouts lays the later over the earlier, field by field, and all of
// them over the defaults. Nil layers are fine: pass the service's, then the
// rule's.
func EffectiveTimeouts(layers ...*apiv1.Timeouts) Timeouts {
	t := Timeouts{DefaultRequestTimeout, DefaultConnectTimeout, DefaultResponseTimeout, DefaultIdleTimeout}
	for _, layer := range layers {
		setDuration(&t.Request, layer.GetRequest())
		setDuration(&t.Connect, layer.GetConnect())
		setDuration(&t.Response, layer.GetResponse())
		setDuration(&t.Idle, layer.GetIdle())
	}
	return t
}

// Retry settings in effect.
type Retry struct {
	Attempts        int // after the first
	On              RetryOn
	PerTry          time.Duration // zero means no limit
	BudgetRatio     float64
	BudgetPerSecond float64
}

// EffectiveRetry lays the later over the earlier, field by field, and all of
// them over the defaults.
func EffectiveRetry(layers ...*apiv1.Retry) Retry {
	r := Retry{
		Attempts:        DefaultRetryAttempts,
		PerTry:          DefaultRetryPerTry,
		BudgetRatio:     DefaultRetryRatio,
		BudgetPerSecond: DefaultRetryPerSecond,
	}
	on := DefaultRetryOn()
	for _, layer := range layers {
		if layer == nil {
			continue
		}
		if len(layer.On) > 0 {
			on = layer.On
		}
		if layer.Attempts != nil {
			r.Attempts = int(*layer.Attempts)
		}
		setDuration(&r.PerTry, layer.PerTry)
		if budget := layer.Budget; budget != nil {
			setFloat(&r.BudgetRatio, budget.Ratio)
			setFloat(&r.BudgetPerSecond, budget.MinPerSecond)
		}
	}
	r.On, _ = ParseRetryOn(on) // words that validation refuses are left out
	return r
}

// RetryOn says which failures are tried again.
type RetryOn struct {
	Connect  bool // no connection came about
	Refused  bool // the called side refused the stream unprocessed
	Reset    bool // the connection ended before a byte was answered
	Statuses []StatusRange
}

// StatusRange is a range of HTTP statuses, both ends included.
type StatusRange struct{ From, To int }

// ParseRetryOn reads the words of Retry.on. With an error it still gives what
// the words before and after the wrong ones say.
func ParseRetryOn(words []string) (RetryOn, error) {
	var on RetryOn
	var wrong error
	for _, word := range words {
		switch word {
		case "connect":
			on.Connect = true
		case "refused":
			on.Refused = true
		case "reset":
			on.Reset = true
		case "5xx":
			on.Statuses = append(on.Statuses, StatusRange{500, 599})
		case "gateway-error":
			on.Statuses = append(on.Statuses, StatusRange{502, 504})
		default:
			status, err := parseRetryStatus(word)
			if err != nil {
				wrong = err
				continue
			}
			on.Statuses = append(on.Statuses, StatusRange{status, status})
		}
	}
	return on, wrong
}

func parseRetryStatus(word string) (int, error) {
	status, err := strconv.Atoi(word)
	if err != nil || len(word) != 3 || status < 400 || status > 599 {
		return 0, fmt.Errorf("%q is not something to retry on", word)
	}
	return status, nil
}

// EffectiveBalance is the balance policy in effect.
func EffectiveBalance(b *apiv1.Balance) string {
	if b.GetPolicy() == "" {
		return DefaultBalance
	}
	return b.GetPolicy()
}

// Breaker settings in effect; a zero limit switches its rule off.
type Breaker struct {
	Consecutive int
	SuccessRate float64
	Window      time.Duration
	MaxEjected  float64
}

// EffectiveBreaker lays b over the defaults.
func EffectiveBreaker(b *apiv1.Breaker) Breaker {
	e := Breaker{DefaultBreakerConsecutive, DefaultBreakerSuccessRate, DefaultBreakerWindow, DefaultBreakerMaxEjected}
	if b == nil {
		return e
	}
	if b.Consecutive != nil {
		e.Consecutive = int(*b.Consecutive)
	}
	setFloat(&e.SuccessRate, b.SuccessRate)
	setFloat(&e.MaxEjected, b.MaxEjected)
	setDuration(&e.Window, b.Window)
	return e
}

// EffectiveSplitWeight is the share of a split; zero means that nothing is sent
// there.
func EffectiveSplitWeight(s *apiv1.Split) uint32 {
	if s == nil || s.Weight == nil {
		return DefaultWeight
	}
	return s.GetWeight()
}

// EffectiveWeight is the weight of an instance or endpoint.
func EffectiveWeight(weight uint32) uint32 {
	return max(weight, DefaultWeight)
}

// PolicySettings is how a policy, or the mesh for services without one, decides
// what no rule matches.
type PolicySettings struct {
	DefaultDeny bool
	Audit       bool // refusals are recorded, not enforced
}

// EffectivePolicy gives the settings of one policy.
func EffectivePolicy(p *apiv1.Policy) PolicySettings {
	return PolicySettings{
		DefaultDeny: p.GetDefault() != apiv1.PolicyAction_POLICY_ACTION_ALLOW,
		Audit:       p.GetMode() == apiv1.PolicyMode_POLICY_MODE_AUDIT,
	}
}

// EffectiveMeshPolicy gives the settings for services without a policy of
// their own. A nil mesh has the defaults.
func EffectiveMeshPolicy(m *apiv1.Mesh) PolicySettings {
	return PolicySettings{
		DefaultDeny: m.GetPolicy().GetDefault() == apiv1.PolicyAction_POLICY_ACTION_DENY,
		Audit:       m.GetPolicy().GetMode() == apiv1.PolicyMode_POLICY_MODE_AUDIT,
	}
}

// EffectiveCertificateTTL is how long a host's or service's certificate is valid.
func EffectiveCertificateTTL(m *apiv1.Mesh) time.Duration {
	ttl := DefaultCertificateTTL
	setDuration(&ttl, m.GetCertificates().GetTtl())
	return ttl
}

// EffectiveWholeCatalogue is up to how many services every agent gets all of
// them.
func EffectiveWholeCatalogue(m *apiv1.Mesh) int {
	if h := m.GetHosts(); h != nil && h.WholeCatalogue != nil {
		return int(h.GetWholeCatalogue())
	}
	return DefaultWholeCatalogue
}

func setDuration(to *time.Duration, from *durationpb.Duration) {
	if from != nil {
		*to = from.AsDuration()
	}
}

func setFloat(to, from *float64) {
	if from != nil {
		*to = *from
	}
}
