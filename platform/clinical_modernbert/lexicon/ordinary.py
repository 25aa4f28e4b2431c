"""Words that are heads of ICD descriptions but ordinary: alone they would mark half of any text.

A term made of such words only is left out ("effects", "left arm"); with any other word, or as the name of a disease
("renal calculus", "renal failure"), it stays. Collected by eye from the heads that are most frequent in open notes and
abstracts: anatomy, adjectives, and nouns that any report uses.
"""

ORDINARY_WORDS = frozenset(
    """
    abdomen abdominal abnormal abnormalities abnormality absence accident accretions acid acids activity adjustment
    administration adult advancement adverse affections after alcohol allergic alteration alterations alveolar anal
    anesthesia angle anion anions ankle anomalies application area arm arrest assessment attachment attention atypical
    auditory back behavior behavioral birth bite bitten blood blotting body bone bowing breakdown burying capsular cardiac
    cardiovascular care cation cations causes cells central cerebellar cerebral change changes cheek child clipping closure
    collection coma combinations combined community complex complication complications condition conditions construction
    consultation contact contour control conversion cord corneal correction cortical counseling creation crowding crushed
    crushing curvature curvatures cutaneous cutting damage deaf death defect defects deficiencies deficiency degenerative
    delay delayed delays deletion deletions delivery dental deposits deprivation destruction deviation device diagnosis
    diagnostic diaper diet difficulties difficulty diffuse diminution discontinuity disease diseases disorder disorders
    dispensing displacement disruption disseminated dissociative disturbance disturbances disulfide division dorsal doubling
    drug duplication duplications early effect effects elbow electric element elements elevated elevation emergency
    encounter endocrine enlarged enlargement essential ester esters evaluation examination excessive excision exercise
    exploration exposure extension external extraction extradural extrapyramidal eye face facilitation failed failure fall
    fear feeding feeling felon female females fetal finding findings finger fissured fitting fixation fluid folds food foot
    forceps forearm foreign form formation forms fourth fragment fragments freeing frequency function functional fusion
    fusions gait gastric general generalized genetic geography gingival group growth habit hand head healing heavy hepatic
    hereditary hesitancy high history home hospital hostility human hyperplastic hypertonic hypertrophic illness imbalance
    impairment implant impulsiveness incision incompetence indication indications individual individuals induced induction
    infantile infection infections infectious inflammatory infusion infusions injection injections injuries injury insertion
    instability internal interruption interstitial interview intestinal intra intracranial inversion irregularities
    irrigation isolated isolation joint knee known labor laboratory lack large late lead leads leg length lens lesion
    lesions level light limb limbar liver lobulated local long loss lower lumbar lymphatic male males management
    manifestations manipulation manual marital mass measurement mechanical memory menopausal mental microscopy mild minor
    misery mitral mixed mobilization monitoring mother motor multifocal multiple nail nasal neck need neurosis newborn
    nonunion normal nose nucleotide nucleotides nutritional obliteration observation obstructive occlusion ocular onset
    opening operation operations optic oral organ osseous outcome overfeeding overweight oxide oxides packing pain part
    partial patient pedicle pelvic perfusion person personality photography physical piercing place placebo placebos
    placement poor position postcoital posture pregnancy prescription presence pressure probing problem problems procedure
    procedures production prognosis program progression prolonged psychological pulmonary pulse puncture pyemic quadrant
    radiation range rape rash rate reaction reactions reading recession reconstructive recurrence recurrences reduction
    referral reflex rehabilitation related relaxation release removal renal repair replacement respiratory restoration
    result retention retinal retropharyngeal retroverted revision rotation scanty school screening sector sedative segment
    segmental sensory separation sequelae severe severity shortening shortness shoulder sign signs single sinus site sites
    sixth skin sleep slowing slowness small smoking social special speech spinal spine splint splitting spotting stage
    starvation state status strain straining strains strange stress stretching subdural supervision suppression surface
    surgery surgical suture symptom symptoms syndrome system systemic tear teeth termination test therapeutic therapy thigh
    third thoracic tissue tooth topography toxic toxicity training transfer transplant transplants transport transposition
    transverse trauma treatment twin type types underdosing underfeeding unhappiness unknown unspecified upper urine use
    variants variations vascular ventilator ventral verbosity video viral visual voice vulvar walking water wear weeks
    weight work worries wound wounds wrist
    """.split()  # noqa: SIM905 - 400 quoted words are harder to review
)

# Everyday words and tokens of forms among the drug list's brand names and abbreviations.
EVERYDAY_DRUG_NAMES = frozenset(
    {"aman", "caps", "dona", "emend", "generics", "hops", "iscover", "oats", "tris", "vals"}
)

# Words that headings and notes in capitals hold, among the abbreviations of vocabularies.
WORDS_IN_CAPITALS = frozenset(
    """
    ACE AID AIM ALL ALSO AM AN AND ARE ARM AS AT BAD BE BED BID BIG BUT BY CAN CAP CAT CUP DAY DID DO EAR END EYE FAR FAT
    FOR GI GO HAD HAS HE HER HIM HIS HOT HOW ICE IF II III IN INR IS IT IV JOB LAB LEG LOW MAP ME MEN MET MR MRS MS MY NO
    NOR NOT NOW OF OFF OLD ON ONE OR OUR OUT PAN PER PO PRN RAN RAT RED SAD SAW SEE SET SHE SIX SO TEN THE TID TO TOP TWO UP
    US USE VI WAS WE WET WHO WHY YOU
    """.split()  # noqa: SIM905 - as above
)
