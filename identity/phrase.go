package identity

import (
	"crypto/rand"
	"math/big"
	"strings"
)

// choices is how many phrases a page shows, one of them right.
const choices = 3

// NewPhrases makes the phrase of a held connection and the three that its page
// offers, in random order, the right one among them. No two share a word, so that
// "the one with falcon" names one of them.
func NewPhrases() (right string, three []string) {
	first := distinct(len(adjectives))
	second := distinct(len(nouns))
	three = make([]string, choices)
	for i := range three {
		three[i] = adjectives[first[i]] + " " + nouns[second[i]]
	}
	return three[below(choices)], three
}

// distinct draws as many different numbers below n as a page shows phrases.
func distinct(n int) [choices]int {
	var drawn [choices]int
	seen := map[int]bool{}
	for i := range drawn {
		k := below(n)
		for seen[k] {
			k = below(n)
		}
		seen[k], drawn[i] = true, k
	}
	return drawn
}

func below(n int) int {
	k, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		panic("identity: the system gives no random numbers: " + err.Error()) // documented never to happen
	}
	return int(k.Int64())
}

// The words are short, plain, told apart by ear, and mean no harm next to each
// other. Both lists hold 256, so that a phrase is worth 16 bits.
var (
	adjectives = strings.Fields(`
amber ancient apt arctic autumn azure balmy beige big bitter
black blue blunt bold bouncy brave breezy brief bright brisk
broad bronze brown bubbly bumpy busy calm candid careful central cheery chief
chilly civil classic clean clear clever cloudy coastal cold cool copper coral
cosmic cosy crafty creamy crimson crisp curious curly dapper daring dark
dear deep dense dewy direct distant double dreamy dry dusky dusty eager
early earnest easy elegant emerald empty equal exact extra fabled fair famous
fancy fast fine firm fleet floral fluffy formal fragile free fresh
frosty frozen full funny fuzzy gallant gentle giant glad glassy gleaming global
glossy golden good grand grassy grateful gray green handy happy hardy hazel
hearty heavy hidden high honest humble icy ideal indigo inner ivory
jade jolly jovial keen kind large late lavish lawful leafy level light
lilac lime linen lively local lofty lone long loud loyal lucid lucky
lunar magic magenta maple maroon marine mellow merry mighty mild minty misty
modern modest mossy muted narrow native navy neat new nimble noble northern
novel oaken olive open orange orderly outer pale patient peach pearly pink
plain playful polar polite prime prompt proud pure purple quick quiet rapid
rare ready regal rich ripe robust rosy round royal ruby rugged rural
rustic sable salty sandy scarlet secret serene sharp shiny short silent
silky silver simple sleek slim slow small smart smooth snowy social soft
solar solid spare spicy square stable starry steady steep still stout strong
sturdy sunny sweet swift teal tidy tiny warm white wide wise young
`)
	nouns = strings.Fields(`
acorn anchor anvil apple apron arbour arrow aspen atlas badger bagel bakery
balloon bamboo banjo banner barley barn basil basin basket bay beacon bean
bear beaver beetle bell bench berry bicycle birch biscuit bison blanket blossom
bonfire book boulder bridge broom brook bucket buffalo button cabin cactus camel
candle canoe canyon carpet carrot castle cedar cello chalk cherry chimney circle
citrus cliff clock cloud clover cobble coconut comet compass cookie corner cottage
cotton cricket crown crystal cup cypress daisy dolphin donkey door dragon drum
dune eagle easel elbow elk elm ember engine envelope falcon feather fennel
fern ferry fiddle field fig finch flag flute forest fountain fox garden
garlic gate gecko ginger giraffe glacier globe goose grape guitar gull hammer
harbour harp hawk hazelnut heron hill hinge holly honey horizon horse igloo
inkwell island ivy jacket jaguar jar jasmine jelly jigsaw juniper kayak kettle
kite kitten koala ladder lagoon lake lamp lantern lark lasso lemon lentil
leopard library lily lion lizard lobster locket lotus magnet magpie mango mantle
marble market meadow melon mill mirror mitten moon mountain muffin mug mulberry
museum napkin needle nest nickel nutmeg oak oasis ocean octopus onion orchard
orchid osprey otter oven owl paddle palace panda parrot parsley path peacock
pebble pelican pencil pepper piano picnic pigeon pillow pine planet plum pocket
pond poplar poppy potato prairie puffin pumpkin quail quarry quill rabbit radio
radish raft rainbow raven ribbon river robin rocket saddle sail salmon scarf
sparrow spoon spruce stream summit sunset teapot thimble tiger tulip turtle valley
violin walnut willow zebra
`)
)
