package zone

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// key signs everything in one zone: the records and itself.
type key struct {
	public  *dns.DNSKEY
	private crypto.Signer
}

func newKey(origin string) (*key, error) {
	const keyBits = 256
	k := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: origin, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: ttl},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := k.Generate(keyBits)
	if err != nil {
		return nil, fmt.Errorf("zone: %w", err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("zone: a key that cannot sign: %T", private)
	}
	return &key{public: k, private: signer}, nil
}

func (k *key) ds() *dns.DS {
	ds := k.public.ToDS(dns.SHA256)
	ds.Hdr.Ttl = ttl
	return ds
}

// rrsetKey names an RRset.
type rrsetKey struct {
	owner string
	typ   uint16
}

// sign adds the key, the denials and the signatures.
func (z *signed) sign(now time.Time) error {
	z.rrs = append(z.rrs, z.key.public)
	denials, err := z.denials()
	if err != nil {
		return err
	}
	z.rrs = append(z.rrs, denials...)

	sets := map[rrsetKey][]dns.RR{}
	for _, rr := range z.rrs {
		k := rrsetKey{strings.ToLower(rr.Header().Name), rr.Header().Rrtype}
		sets[k] = append(sets[k], rr)
	}
	for k, set := range sets {
		if !z.authoritative(k) {
			continue
		}
		sig, err := z.signature(set, now)
		if err != nil {
			return err
		}
		z.rrs = append(z.rrs, sig)
	}
	return nil
}

// cut reports whether owner is delegated to another zone (RFC 4035 section 2.2).
func (z *signed) cut(owner string) bool {
	return owner != z.Origin && slices.ContainsFunc(z.rrs, func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeNS && strings.EqualFold(rr.Header().Name, owner)
	})
}

// authoritative reports whether an RRset gets a signature: the NS of a delegation does not.
func (z *signed) authoritative(k rrsetKey) bool {
	return !z.cut(k.owner) || k.typ == dns.TypeDS || k.typ == dns.TypeNSEC
}

func (z *signed) signature(set []dns.RR, now time.Time) (*dns.RRSIG, error) {
	const day = 24 * time.Hour
	from, to := now.Add(-day), now.Add(day)
	if z.State == Expired {
		from, to = now.Add(-30*day), now.Add(-2*day)
	}
	h := set[0].Header()
	sig := &dns.RRSIG{
		Hdr:       dns.RR_Header{Name: h.Name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: h.Ttl},
		Algorithm: z.key.public.Algorithm, KeyTag: z.key.public.KeyTag(), SignerName: z.Origin,
		Inception: uint32(from.Unix()), Expiration: uint32(to.Unix()),
	}
	if err := sig.Sign(z.key.private, set); err != nil {
		return nil, err
	}
	if slices.Contains(z.Broken, h.Name+" "+dns.TypeToString[h.Rrtype]) {
		raw, err := base64.StdEncoding.DecodeString(sig.Signature)
		if err != nil {
			return nil, err
		}
		raw[0] ^= 0xff
		sig.Signature = base64.StdEncoding.EncodeToString(raw)
	}
	return sig, nil
}

// denials returns the NSEC or NSEC3 records.
func (z *signed) denials() ([]dns.RR, error) {
	types := map[string][]uint16{} // by owner
	for _, rr := range z.rrs {
		owner := strings.ToLower(rr.Header().Name)
		if t := rr.Header().Rrtype; !slices.Contains(types[owner], t) {
			types[owner] = append(types[owner], t)
		}
	}
	if z.State == Signed3 {
		return z.nsec3(types), nil
	}
	var owners []string
	for o := range types {
		owners = append(owners, o)
	}
	// RFC 4034 section 6.1: canonical order is by label, from the right.
	sort.Slice(owners, func(i, j int) bool { return canonical(owners[i]) < canonical(owners[j]) })
	if len(owners) == 0 || owners[0] != z.Origin {
		return nil, fmt.Errorf("records outside the zone")
	}
	var rrs []dns.RR
	for i, o := range owners {
		rrs = append(rrs, &dns.NSEC{
			Hdr:        dns.RR_Header{Name: o, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: ttl},
			NextDomain: owners[(i+1)%len(owners)],
			TypeBitMap: bitmap(append(slices.Clone(types[o]), dns.TypeNSEC, dns.TypeRRSIG)),
		})
	}
	return rrs, nil
}

// nsec3 chains the hashed names, empty non-terminals included (RFC 5155 section 7.1).
func (z *signed) nsec3(types map[string][]uint16) []dns.RR {
	for o := range types {
		for i, end := dns.NextLabel(o, 0); !end && dns.IsSubDomain(z.Origin, o[i:]); i, end = dns.NextLabel(o, i) {
			if _, there := types[o[i:]]; !there {
				types[o[i:]] = nil
			}
		}
	}
	types[z.Origin] = append(types[z.Origin], dns.TypeNSEC3PARAM)
	const noIterations, noSalt = 0, "" // RFC 9276 section 3.1
	hashes := map[string]string{}
	var chain []string
	for o := range types {
		h := dns.HashName(o, dns.SHA1, noIterations, noSalt)
		hashes[h] = o
		chain = append(chain, h)
	}
	sort.Strings(chain)
	rrs := []dns.RR{&dns.NSEC3PARAM{
		Hdr:  dns.RR_Header{Name: z.Origin, Rrtype: dns.TypeNSEC3PARAM, Class: dns.ClassINET, Ttl: ttl},
		Hash: dns.SHA1,
	}}
	const hashLength = 20
	for i, h := range chain {
		owner := hashes[h]
		there := slices.Clone(types[owner])
		if len(there) > 0 && (!z.cut(owner) || slices.Contains(there, dns.TypeDS)) {
			there = append(there, dns.TypeRRSIG)
		}
		rrs = append(rrs, &dns.NSEC3{
			Hdr: dns.RR_Header{Name: strings.ToLower(h) + "." + z.Origin, Rrtype: dns.TypeNSEC3, Class: dns.ClassINET,
				Ttl: ttl},
			Hash: dns.SHA1, HashLength: hashLength, NextDomain: chain[(i+1)%len(chain)], TypeBitMap: bitmap(there),
		})
	}
	return rrs
}

func bitmap(types []uint16) []uint16 {
	slices.Sort(types)
	return slices.Compact(types)
}

// canonical turns a name round, so that strings sort as RFC 4034 section 6.1 wants it; the lab's names hold no
// byte below the separator.
func canonical(name string) string {
	labels := dns.SplitDomainName(name)
	slices.Reverse(labels)
	return strings.Join(labels, "\x00")
}
