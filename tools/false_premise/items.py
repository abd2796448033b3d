"""What the pairs of `false_premise` are about: for each, what the user gets wrong and what is right.

None of it is a topic of the shipped claims, which evaluations ask.
"""

LINES = """
To be, or not to be, that is the question | William Shakespeare | Jane Austen | whether to go on living or to make an end of one's troubles
It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife | Jane Austen | Charles Dickens | how polite society treats marriage as a matter of money
It was the best of times, it was the worst of times | Charles Dickens | Mark Twain | an age of great hope and great despair at once
All happy families are alike; each unhappy family is unhappy in its own way | Leo Tolstoy | Fyodor Dostoevsky | how many things must go right in a home before it is a happy one
Two roads diverged in a yellow wood | Robert Frost | Walt Whitman | a choice that cannot be taken back
Hope is the thing with feathers | Emily Dickinson | Sylvia Plath | hope as a bird that goes on singing in a storm
Once upon a midnight dreary, while I pondered, weak and weary | Edgar Allan Poe | Nathaniel Hawthorne | a mourner who sits awake and cannot let go of his grief
I wandered lonely as a cloud | William Wordsworth | John Keats | the joy that a memory of nature can bring back
A thing of beauty is a joy for ever | John Keats | Lord Byron | how beauty stays with us long after we have seen it
She walks in beauty, like the night | Lord Byron | Percy Bysshe Shelley | a beauty in which light and dark are in balance
Look on my Works, ye Mighty, and despair! | Percy Bysshe Shelley | William Blake | how little remains of power and pride in the end
Tyger Tyger, burning bright | William Blake | Robert Burns | awe before a creature that is both beautiful and fearful
The best laid schemes o' mice an' men gang aft a-gley | Robert Burns | Walter Scott | how often careful plans go wrong
Water, water, every where, nor any drop to drink | Samuel Taylor Coleridge | Rudyard Kipling | the torment of being surrounded by what one cannot use
If you can keep your head when all about you are losing theirs | Rudyard Kipling | Alfred Tennyson | staying calm and fair when others do not
'Tis better to have loved and lost than never to have loved at all | Alfred Tennyson | William Shakespeare | why love is worth the grief it may bring
I think, therefore I am | René Descartes | Immanuel Kant | the one thing that a doubter cannot doubt, which is that he thinks
The unexamined life is not worth living | Socrates | Aristotle | why people should question how they live
Man is born free, and everywhere he is in chains | Jean-Jacques Rousseau | Karl Marx | how society binds people who are free by nature
We must cultivate our garden | Voltaire | Victor Hugo | doing useful work at hand instead of arguing about the whole world
God is dead | Friedrich Nietzsche | Sigmund Freud | a culture that has lost the faith on which its values stood
Hell is other people | Jean-Paul Sartre | Albert Camus | how the judgment of others can become a prison
No man is an island | John Donne | Ernest Hemingway | how every person is a part of all mankind
Do not go gentle into that good night | Dylan Thomas | Robert Frost | fighting for life even when it nears its end
April is the cruellest month | T. S. Eliot | W. H. Auden | how spring can hurt by waking old memories and desires
All animals are equal, but some animals are more equal than others | George Orwell | Aldous Huxley | how those who promise equality may keep privileges for themselves
The only thing we have to fear is fear itself | Franklin D. Roosevelt | Winston Churchill | how panic can do more harm than the trouble that caused it
Ask not what your country can do for you | John F. Kennedy | Ronald Reagan | serving the public instead of waiting to be served
Give me liberty, or give me death! | Patrick Henry | Benjamin Franklin | valuing freedom above life itself
These are the times that try men's souls | Thomas Paine | Alexander Hamilton | holding on to a cause when it goes badly
We hold these truths to be self-evident | Thomas Jefferson | James Madison | rights that need no proof because all people have them
I have nothing to offer but blood, toil, tears and sweat | Winston Churchill | Charles de Gaulle | a leader who promises effort and not comfort
Give me a place to stand, and I shall move the earth | Archimedes | Pythagoras | how much a lever can do for a small force
If I have seen further it is by standing on the shoulders of giants | Isaac Newton | Galileo Galilei | how discoveries rest on the work of those who came before
The heart has its reasons, of which reason knows nothing | Blaise Pascal | Michel de Montaigne | beliefs that feeling gives us and argument does not
Whereof one cannot speak, thereof one must be silent | Ludwig Wittgenstein | Bertrand Russell | the limits of what can be said with sense
Religion is the opium of the people | Karl Marx | Vladimir Lenin | faith as a comfort that dulls the pain of a hard life
The journey of a thousand miles begins with a single step | Laozi | Confucius | how every great task starts small
Know the enemy and know yourself | Sun Tzu | Genghis Khan | preparing well before one enters a contest
It is much safer to be feared than loved | Niccolò Machiavelli | Lorenzo de' Medici | how a ruler holds on to power
Abandon all hope, ye who enter here | Dante Alighieri | Giovanni Boccaccio | a place from which there is no return
Better to reign in Hell than serve in Heaven | John Milton | Christopher Marlowe | a pride that would rather rule in misery than obey
To err is human; to forgive, divine | Alexander Pope | Samuel Johnson | forgiving others because everybody makes mistakes
A little learning is a dangerous thing | Alexander Pope | Jonathan Swift | the false confidence of those who know only a little
The quality of mercy is not strained | William Shakespeare | John Milton | mercy as something that must be given freely
All the world's a stage | William Shakespeare | Ben Jonson | how people play one part after another in the course of life
Brevity is the soul of wit | William Shakespeare | Mark Twain | saying what matters in few words
Shall I compare thee to a summer's day? | William Shakespeare | Christina Rossetti | a beloved person whose beauty outlasts any season
I can resist everything except temptation | Oscar Wilde | George Bernard Shaw | how weak our good resolutions are
We are all in the gutter, but some of us are looking at the stars | Oscar Wilde | Charles Dickens | keeping one's ideals in poor circumstances
Please, sir, I want some more | Charles Dickens | Victor Hugo | a hungry child who dares to ask
Reader, I married him | Charlotte Brontë | Jane Austen | a heroine who tells of her own decision in her own voice
Whatever our souls are made of, his and mine are the same | Emily Brontë | George Eliot | a love so close that two people feel like one
Curiouser and curiouser! | Lewis Carroll | J. M. Barrie | the surprise of a child in a world without rules
Second to the right, and straight on till morning | J. M. Barrie | Lewis Carroll | the way to a place where children never grow up
'Twas brillig, and the slithy toves did gyre and gimble in the wabe | Lewis Carroll | A. A. Milne | how nonsense words can still paint a scene
The Owl and the Pussy-cat went to sea in a beautiful pea-green boat | Edward Lear | Beatrix Potter | an odd couple that sets off on a journey together
There is nothing half so much worth doing as simply messing about in boats | Kenneth Grahame | Arthur Ransome | the pleasure of doing nothing in particular on the water
I am no bird; and no net ensnares me | Charlotte Brontë | Virginia Woolf | a woman who insists on her own free will
A woman must have money and a room of her own if she is to write fiction | Virginia Woolf | Simone de Beauvoir | the freedom and privacy that creative work needs
One is not born, but rather becomes, a woman | Simone de Beauvoir | Virginia Woolf | how society shapes what it calls natural
O Captain! my Captain! our fearful trip is done | Walt Whitman | Herman Melville | mourning a leader at the very moment of victory
I went to the woods because I wished to live deliberately | Henry David Thoreau | Ralph Waldo Emerson | a simple life in which one learns what matters
A foolish consistency is the hobgoblin of little minds | Ralph Waldo Emerson | Henry David Thoreau | not clinging to an opinion only because one held it yesterday
Because I could not stop for Death, he kindly stopped for me | Emily Dickinson | Edgar Allan Poe | death as a polite visitor who takes us along
So we beat on, boats against the current, borne back ceaselessly into the past | F. Scott Fitzgerald | John Steinbeck | striving for a future while the past pulls us back
The horror! The horror! | Joseph Conrad | H. P. Lovecraft | a man who sees at last what he has become
Things fall apart; the centre cannot hold | W. B. Yeats | James Joyce | a world whose order is breaking down
Tread softly because you tread on my dreams | W. B. Yeats | Seamus Heaney | how easily a person who loves can be hurt
Listen, my children, and you shall hear of the midnight ride of Paul Revere | Henry Wadsworth Longfellow | Washington Irving | a night ride that warned the countryside
In Flanders fields the poppies blow | John McCrae | Siegfried Sassoon | the dead of a war who ask the living to remember
What passing-bells for these who die as cattle? | Wilfred Owen | Thomas Hardy | the senseless death of young soldiers
If I should die, think only this of me | Rupert Brooke | Wilfred Owen | a soldier whose grave makes foreign ground a part of home
How do I love thee? Let me count the ways | Elizabeth Barrett Browning | Emily Dickinson | a love that fills every part of life
Ah, but a man's reach should exceed his grasp | Robert Browning | William Wordsworth | aiming higher than one can be sure to get
In Xanadu did Kubla Khan a stately pleasure-dome decree | Samuel Taylor Coleridge | Lord Byron | the power of imagination to build marvelous places
Season of mists and mellow fruitfulness | John Keats | William Wordsworth | the ripe and quiet beauty of autumn
If Winter comes, can Spring be far behind? | Percy Bysshe Shelley | John Keats | the hope that better days follow hard ones
The Child is father of the Man | William Wordsworth | Sigmund Freud | how childhood forms the person we become
Nature, red in tooth and claw | Alfred Tennyson | Charles Darwin | how cruel the living world can look
I disapprove of what you say, but I will defend to the death your right to say it | Evelyn Beatrice Hall | Voltaire | standing up for the free speech of people one disagrees with
The survival of the fittest | Herbert Spencer | Gregor Mendel | how those who suit their surroundings last longest
From so simple a beginning endless forms most beautiful and most wonderful have been, and are being, evolved | Charles Darwin | Alexander von Humboldt | the wonder that all of life grew from humble origins
Fools rush in where angels fear to tread | Alexander Pope | William Blake | how the ignorant dare what the wise avoid
Heaven has no rage like love to hatred turned | William Congreve | William Shakespeare | how bitter a disappointed love can become
Workers of the world, unite! | Karl Marx and Friedrich Engels | Leon Trotsky | people without property who have a cause in common
When you have eliminated the impossible, whatever remains, however improbable, must be the truth | Arthur Conan Doyle | Agatha Christie | finding an answer by ruling out all the others
"""

WORKS = """
the painting The Starry Night | Vincent van Gogh | Claude Monet | its swirling sky and thick strokes of blue and yellow
the Water Lilies paintings | Claude Monet | Auguste Renoir | the way light and color dissolve on the surface of a pond
the painting The Scream | Edvard Munch | Gustav Klimt | the fear in a face under a blood-red sky
the golden painting The Kiss | Gustav Klimt | Edvard Munch | the two lovers wrapped in gold and patterns
the painting Guernica | Pablo Picasso | Joan Miró | its broken figures that cry out against war
the painting The Persistence of Memory | Salvador Dalí | René Magritte | the soft watches that melt in an empty landscape
the painting Girl with a Pearl Earring | Johannes Vermeer | Frans Hals | the quiet light on a face that looks over its shoulder
the painting The Night Watch | Rembrandt | Peter Paul Rubens | the drama of light and shadow among its guardsmen
the painting The Birth of Venus | Sandro Botticelli | Raphael | the goddess who drifts ashore on a shell
the fresco The School of Athens | Raphael | Sandro Botticelli | the great thinkers gathered under one high arch
the ceiling of the Sistine Chapel | Michelangelo | Caravaggio | the hand of Adam that almost touches the hand of God
the print The Great Wave off Kanagawa | Katsushika Hokusai | Utagawa Hiroshige | the claw of water that rises above a tiny Mount Fuji
the painting American Gothic | Grant Wood | Norman Rockwell | the stern couple with a pitchfork before their house
the painting Nighthawks | Edward Hopper | Andrew Wyeth | the loneliness of people in a bright diner at night
the pictures of Campbell's soup cans | Andy Warhol | Jackson Pollock | the way an everyday product turns into art
the sculpture The Thinker | Auguste Rodin | Donatello | the effort of thought that shows in every muscle
the Four Seasons concertos | Antonio Vivaldi | Joseph Haydn | birds, storms and frost painted with violins
the Brandenburg Concertos | Johann Sebastian Bach | Antonio Vivaldi | the play between soloists and the whole band
the oratorio Messiah | George Frideric Handel | Joseph Haydn | the Hallelujah chorus that brings audiences to their feet
the ballet Swan Lake | Pyotr Tchaikovsky | Sergei Rachmaninoff | the sad oboe tune of an enchanted princess
the ballet The Rite of Spring | Igor Stravinsky | Dmitri Shostakovich | its savage rhythms, which shocked its first audience
the story with music Peter and the Wolf | Sergei Prokofiev | Modest Mussorgsky | an instrument of its own for every animal
the opera Carmen | Georges Bizet | Giuseppe Verdi | its fiery heroine and her Habanera
the opera Aida | Giuseppe Verdi | Georges Bizet | the triumphal march and the love of an enslaved princess
the opera La Bohème | Giacomo Puccini | Gioachino Rossini | the poor young artists who love and freeze in Paris
the opera The Barber of Seville | Gioachino Rossini | Giacomo Puccini | the quick wit of Figaro and its sparkling overture
the Ring cycle of operas | Richard Wagner | Richard Strauss | the web of musical themes around a cursed ring
the waltz The Blue Danube | Johann Strauss II | Frédéric Chopin | a slow opening that blossoms into a dance
the piano piece Clair de lune | Claude Debussy | Erik Satie | the hushed chords that seem to shimmer like moonlight
the orchestral piece Boléro | Maurice Ravel | Manuel de Falla | one melody that grows and grows over one drum rhythm
the suite The Planets | Gustav Holst | Edward Elgar | a character of its own for every planet
Rhapsody in Blue | George Gershwin | Aaron Copland | the wail of its clarinet that joins jazz and symphony
the New World Symphony | Antonín Dvořák | Bedřich Smetana | the longing melody of its slow movement
the Hungarian Rhapsodies | Franz Liszt | Johannes Brahms | their wild dances and dazzling runs
the novel Frankenstein | Mary Shelley | Ann Radcliffe | a maker who runs away from what he made
the novel Dracula | Bram Stoker | Mary Shelley | terror told through letters and diaries
the novel Wuthering Heights | Emily Brontë | Jane Austen | a wild love on the Yorkshire moors
the novel Jane Eyre | Charlotte Brontë | George Eliot | a plain governess with an unbending conscience
the novel Middlemarch | George Eliot | Elizabeth Gaskell | a whole town drawn with patience and sympathy
the novel Great Expectations | Charles Dickens | Thomas Hardy | a boy who learns what a gentleman really is
the novel Tess of the d'Urbervilles | Thomas Hardy | Charles Dickens | an innocent woman whom her world condemns
the novel Les Misérables | Victor Hugo | Émile Zola | a convict who becomes good through one act of kindness
the novel The Three Musketeers | Alexandre Dumas | Victor Hugo | the friendship of one for all and all for one
the novel Madame Bovary | Gustave Flaubert | Guy de Maupassant | a wife whose dreams come out of cheap romances
the novel Around the World in Eighty Days | Jules Verne | H. G. Wells | the race of a punctual gentleman against the clock
the novel The Time Machine | H. G. Wells | Jules Verne | a traveler who sees what became of mankind
the novel Crime and Punishment | Fyodor Dostoevsky | Ivan Turgenev | a murderer whom his own conscience hunts
the novel War and Peace | Leo Tolstoy | Nikolai Gogol | the fate of families in the turmoil of war
the play The Cherry Orchard | Anton Chekhov | Henrik Ibsen | a family that cannot save the home it loves
the play A Doll's House | Henrik Ibsen | August Strindberg | the door that a wife shuts behind her at the end
the novel Don Quixote | Miguel de Cervantes | Lope de Vega | a dreamer who takes windmills for giants
the Divine Comedy | Dante Alighieri | Francesco Petrarca | a journey through hell and purgatory up to heaven
The Canterbury Tales | Geoffrey Chaucer | Edmund Spenser | pilgrims of every rank who tell one another stories
the epic Paradise Lost | John Milton | John Bunyan | the fall of an angel too proud to obey
the novel Gulliver's Travels | Jonathan Swift | Daniel Defoe | giants and tiny people that mirror our own follies
the novel Robinson Crusoe | Daniel Defoe | Jonathan Swift | a castaway who builds a life with his own hands
the novel Treasure Island | Robert Louis Stevenson | Herman Melville | a map, a parrot and a pirate one cannot help liking
The Jungle Book | Rudyard Kipling | Robert Louis Stevenson | a boy brought up by wolves who learns the law of the jungle
the novel The Hobbit | J. R. R. Tolkien | C. S. Lewis | a homely hero who is swept into an adventure
The Chronicles of Narnia | C. S. Lewis | Philip Pullman | a wardrobe that opens on a snowy wood
the story The Metamorphosis | Franz Kafka | Robert Musil | a man who wakes up as an insect and worries about his job
the novel The Magic Mountain | Thomas Mann | Hermann Hesse | time that stands still in a sanatorium
the novel One Hundred Years of Solitude | Gabriel García Márquez | Jorge Luis Borges | seven generations in a town where wonders are ordinary
the novel Things Fall Apart | Chinua Achebe | Wole Soyinka | a proud man whose village changes faster than he does
the novel The Old Man and the Sea | Ernest Hemingway | William Faulkner | an old fisherman who is beaten and yet not defeated
the novel The Grapes of Wrath | John Steinbeck | Sinclair Lewis | a family driven west by dust and debt
the novel The Great Gatsby | F. Scott Fitzgerald | Ernest Hemingway | a green light that stands for a lost love
the novel To Kill a Mockingbird | Harper Lee | Toni Morrison | a child who watches her father stand up for justice
the novel Adventures of Huckleberry Finn | Mark Twain | Jack London | a raft on a great river that means freedom
the novel The Call of the Wild | Jack London | James Fenimore Cooper | a house dog who finds the wolf in himself
the novel Little Women | Louisa May Alcott | Edith Wharton | four sisters who each find a way of their own
the novel The Scarlet Letter | Nathaniel Hawthorne | Washington Irving | a letter of shame that turns into a sign of strength
"""

DATES = """
the French Revolution began | in 1789 | in 1689 | it swept away the old order of estates
Magna Carta was sealed | in 1215 | in 1415 | it put even the king under the law
the Battle of Hastings was fought | in 1066 | in 1266 | it gave England a Norman king
Columbus first reached the Americas | in 1492 | in 1592 | it joined two worlds that knew nothing of each other
the Black Death reached Europe | in 1347 | in 1547 | it killed about a third of the people there
Gutenberg set up his printing press in Mainz | around 1450 | around 1250 | it made books cheap enough for many readers
the Great Fire burned down much of the English capital | in 1666 | in 1766 | it led to wider streets and houses of stone
the American Declaration of Independence was adopted | in 1776 | in 1812 | it told the world why the colonies broke away
World War I began | in 1914 | in 1904 | it drew one country after another into the fighting
the Russian Revolution took place | in 1917 | in 1907 | it ended the rule of the tsars
the great Wall Street crash happened | in 1929 | in 1919 | it was the start of a long depression
India became independent | in 1947 | in 1957 | it ended two centuries of British rule
the Suez Canal was opened | in 1869 | in 1919 | it spared ships the way around the Cape
the Panama Canal was opened | in 1914 | in 1954 | it spared ships the way around Cape Horn
the Eiffel Tower was completed | in 1889 | in 1929 | it was the tallest structure that people had ever built
the Wright brothers made their first powered flight | in 1903 | in 1923 | it lasted only twelve seconds and changed travel for good
Alexander Fleming discovered penicillin | in 1928 | in 1898 | it opened the age of antibiotics
the double helix of DNA was described | in 1953 | in 1983 | it showed how inheritance can be copied
the first transplant of a human heart was done | in 1967 | in 1937 | it proved that a heart can be replaced
the reactor at Chernobyl exploded | in 1986 | in 1976 | it spread fallout over much of Europe
the airship Hindenburg burned | in 1937 | in 1917 | it ended the age of passenger airships
the volcano Krakatoa erupted | in 1883 | in 1783 | it colored sunsets around the whole globe
Vesuvius buried Pompeii | in the year 79 | in the year 379 | it preserved a Roman town under ash
the Spanish Armada was defeated | in 1588 | in 1688 | it saved England from an invasion
Constantinople fell to the Ottomans | in 1453 | in 1653 | it ended the Byzantine Empire
Charlemagne was crowned emperor | in the year 800 | in the year 1000 | it revived the idea of an empire in the West
Genghis Khan united the Mongols | in 1206 | in 1406 | it was the start of the largest land empire ever
the Aztec capital fell to the Spanish | in 1521 | in 1621 | it opened Mexico to Spanish rule
the Mayflower sailed to America | in 1620 | in 1720 | it carried the pilgrims who founded Plymouth
the Peace of Westphalia was signed | in 1648 | in 1748 | it ended the Thirty Years' War
the Boston Tea Party took place | in 1773 | in 1793 | it drove Britain and its colonies further apart
the Louisiana Purchase was made | in 1803 | in 1833 | it doubled the size of the United States
the Irish potato famine began | in 1845 | in 1885 | it drove more than a million people to emigrate
the California gold rush began | in 1848 | in 1888 | it brought fortune seekers from all over the world
the Meiji Restoration began in Japan | in 1868 | in 1908 | it turned a closed country into a modern state
the American Civil War ended | in 1865 | in 1885 | it brought slavery in the South to an end
the United States bought Alaska from Russia | in 1867 | in 1917 | it cost only about two cents an acre
Germany was united as an empire | in 1871 | in 1901 | it changed the balance of power in Europe
New Zealand gave women the vote | in 1893 | in 1933 | it was the first country to do so
the Australian colonies formed a federation | in 1901 | in 1941 | it made six colonies one nation
the Treaty of Versailles was signed | in 1919 | in 1939 | it laid the blame for the war on Germany
NATO was founded | in 1949 | in 1969 | it bound North America to the defense of Europe
Sputnik was launched | in 1957 | in 1947 | it opened the race into space
the Cuban missile crisis took place | in 1962 | in 1982 | it brought the world close to nuclear war
Nelson Mandela became president of South Africa | in 1994 | in 1974 | it sealed the end of apartheid
euro coins and notes came into use | in 2002 | in 1982 | it let people pay alike from Lisbon to Helsinki
the Soviet Union was dissolved | in 1991 | in 1971 | it left fifteen independent states
the sheep Dolly was born | in 1996 | in 1966 | it showed that an adult mammal can be cloned
the Hubble telescope was launched | in 1990 | in 1960 | it gave astronomers a view above the air
Elizabeth II was crowned | in 1953 | in 1973 | it was watched on television by millions
"""

PLACES = """
Machu Picchu | in Peru | in Mexico | its terraces cling to a mountain ridge high above a river
Angkor Wat | in Cambodia | in Thailand | its towers stand for the peaks of a holy mountain
Petra | in Jordan | in Morocco | its temples are carved straight into rose-colored rock
the Taj Mahal | in Agra | in Mumbai | its white marble changes color with the hour of the day
the Colosseum | in Rome | in Athens | its arena held fifty thousand spectators
the Parthenon | in Athens | in Rome | its columns were built to look straight by being slightly curved
the Sagrada Família | in Barcelona | in Madrid | its towers have been growing for more than a century
the Hagia Sophia | in Istanbul | in Cairo | its dome seems to float on a ring of windows
the Alhambra | in Granada | in Lisbon | its courtyards join water, tiles and carved plaster
the Hermitage Museum | in Saint Petersburg | in Moscow | its halls were once the winter palace of the tsars
Neuschwanstein Castle | in Bavaria | in Scotland | its towers were the dream of a lonely king
Stonehenge | in England | in Norway | its stones line up with the sun at midsummer
Chichen Itza | in Mexico | in Peru | its pyramid throws the shadow of a snake twice a year
Victoria Falls | on the border of Zambia and Zimbabwe | in Kenya | its spray can be seen from many miles away
Uluru | in Australia | in New Zealand | its red rock glows at sunrise and sunset
Mount Kilimanjaro | in Tanzania | in Nigeria | its summit carries ice close to the equator
Mount Fuji | in Japan | in Korea | its even cone has been painted countless times
Lake Titicaca | on the border of Peru and Bolivia | in Argentina | its floating islands are woven from reeds
Lake Baikal | in Siberia | in Finland | its basin holds more fresh water than any other lake
the mouth of the Danube | on the Black Sea | on the Adriatic Sea | its delta is a paradise for birds
the mouth of the Volga | on the Caspian Sea | on the Baltic Sea | its branches fan out into a wide delta
the mouth of the Rhine | in the Netherlands | in Denmark | its arms made one of the largest harbors in the world
the seat of Canada's government | in Ottawa | in Toronto | its parliament stands on a hill above the river
the seat of Turkey's government | in Ankara | in Istanbul | its founder wanted a capital in the heart of the country
the seat of Switzerland's government | in Bern | in Zurich | its old town lies in a bend of the river
the seat of Morocco's government | in Rabat | in Casablanca | its palace and ministries lie by the ocean
the seat of Vietnam's government | in Hanoi | in Da Nang | its old quarter is full of narrow trade streets
the seat of Kazakhstan's government | in Astana | in Almaty | its bold new towers rise from the steppe
the seat of Nigeria's government | in Abuja | in Lagos | its site was chosen for being in the middle of the country
the seat of New Zealand's government | in Wellington | in Auckland | its round parliament building is known as the Beehive
the seat of Pakistan's government | in Islamabad | in Karachi | its streets were planned on a drawing board
the Galápagos Islands | in Ecuador | in Brazil | their finches helped to change biology
the Moai statues | on Easter Island | on Madagascar | their long stone faces look inland
the Blue Mosque | in Istanbul | in Tehran | its walls are covered with blue tiles
the Uffizi gallery | in Florence | in Venice | its rooms were built as offices for a duke
the Prado museum | in Madrid | in Seville | its halls hold the great paintings of a royal house
the Rijksmuseum | in Amsterdam | in Brussels | its great hall was built around a single painting
Table Mountain | in Cape Town | in Nairobi | its flat top is often covered by a cloth of cloud
Mount Vesuvius | near Naples | near Milan | its slopes grow fine vines and tomatoes
the Brandenburg Gate | in Berlin | in Vienna | its chariot looks out over a grand avenue
Edinburgh Castle | in Scotland | in Ireland | its walls stand on the rock of a dead volcano
the fjord of Geiranger | in Norway | in Iceland | its waterfalls drop straight into deep water
the Golden Gate Bridge | in San Francisco | in Seattle | its towers often rise above the fog
the Kiel Canal | in Germany | in Sweden | its locks join two seas
"""

FACTS = """
the platypus is a bird | The platypus is a mammal that happens to lay eggs | it has a bill and lays eggs
dolphins lay eggs | Dolphins give birth to live young and nurse them | they live in the sea all year round
tomatoes grow on trees in orchards | Tomatoes grow on vines close to the ground | they need so much sun
coffee is made from the leaves of a shrub | Coffee is made from the roasted seeds of a fruit | the leaves hold so much caffeine
silk is spun by spiders on farms | Silk is spun by the caterpillars of a moth | their threads are so fine and strong
wool comes from cotton plants | Wool comes from the fleece of sheep | its fibers are so soft
cork is made from a kind of clay | Cork is the bark of an oak | it is so light when it dries
paper was invented in France | Paper was invented in China | writers there needed something cheaper than parchment
pasta is made from potatoes | Pasta is made from wheat | it becomes so soft when it is boiled
tofu is made from fish | Tofu is made from soybeans | it is so rich in protein
vanilla comes from a root | Vanilla comes from the pods of an orchid | roots store the strongest flavors
cinnamon is a kind of seed | Cinnamon is the inner bark of a tree | seeds hold so much oil
saffron comes from a beetle | Saffron comes from the stigmas of a crocus | its color is so intense
the appendix lies in the chest | The appendix hangs on the large intestine, in the lower belly | the ribs protect it so well there
fingernails are made of bone | Fingernails are made of keratin, as hair is | they have to be so hard
the cornea is in the ear | The cornea is the clear front of the eye | hearing needs so thin a layer
insulin is made in the lungs | Insulin is made in the pancreas | sugar is burned with the air we take in
the biceps is a muscle of the leg | The biceps is the muscle at the front of the upper arm | walking takes so much strength
skin is the smallest organ of the body | The skin is the largest organ of the body | it is so thin
helium is heavier than air | Helium is lighter than air | it is such a noble gas
mercury is a gas at room temperature | Mercury is a liquid metal at room temperature | its atoms hold together so weakly
diamonds are made of silicon | Diamonds are made of carbon | silicon forms such hard crystals
table salt is made of potassium and iodine | Table salt is made of sodium and chlorine | these two attract each other so strongly
the sun goes around the Earth | The Earth goes around the sun | we see it cross the sky every day
Venus is the largest planet | Venus is about as large as the Earth, and Jupiter is much larger | it shines so brightly
a light-year is a measure of time | A light-year is the distance that light travels in a year | it takes light so long to get anywhere
comets are balls of burning gas | Comets are lumps of ice and dust | their tails glow so brightly
shooting stars are stars that fall from the sky | Shooting stars are bits of dust that burn up in the air | some of the stars are so loosely bound
Pluto is bigger than the Earth | Pluto is smaller than our moon | it rules so large a part of the outer system
playing cards were invented in Iceland | Playing cards came to Europe from the East, and the first are known from China | the winters there are so long
the tango comes from Finland | The tango comes from Argentina and Uruguay | people there dance it so much
karate comes from Brazil | Karate comes from Okinawa in Japan | so many styles of fighting met there
the waltz is danced in four-four time | The waltz is danced in three-four time | four beats make it so easy to turn
a cello is played under the chin | A cello stands between the player's knees | its sound is so close to the voice
a harp has only four strings | A concert harp has forty-seven strings | four are enough for a harmony
haiku come from Greece | The haiku comes from Japan | the Greeks loved short poems
sonnets have twenty lines | A sonnet has fourteen lines | poets needed room for an argument
the Koran was written in Latin | The Koran was written in Arabic | Latin was the language of scholars
Buddha was born in Egypt | Buddha was born in what is now Nepal | so many religions began there
the Nobel Prizes are named after an English king | The Nobel Prizes are named after Alfred Nobel, a Swedish chemist | kings paid for so much science
polar bears live at the South Pole | Polar bears live in the Arctic, around the North Pole | they need so much ice
emus can fly for hours | Emus cannot fly, but they run fast | their legs give them such a start
snakes have eyelids that they close at night | Snakes have no eyelids, only a clear scale over each eye | they sleep so deeply
a group of lions is called a pack | A group of lions is called a pride | they hunt so closely together
koalas are bears | Koalas are marsupials, related to wombats | they are so round and furry
crocodiles are mammals | Crocodiles are reptiles | they take such care of their young
coral is a kind of plant | Coral is made by tiny animals | it grows and branches so slowly
eels are a kind of snake | Eels are fish | they have such long and slippery bodies
"""
